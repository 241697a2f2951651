//! The part of TensorFlow's event format that scalars and texts need, as Protocol Buffers messages.
//!
//! Field numbers are those of `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto` in
//! tensorflow/core/framework and tensorflow/core/util. Fields not declared here are ignored. The messages are declared
//! by hand, like those of ONNX.

use prost::{Message, Oneof};

/// The value `DT_STRING` of `DataType`.
pub(super) const STRING: i32 = 7;
/// The value `DATA_CLASS_TENSOR` of `DataClass`.
pub(super) const TENSOR: i32 = 2;
/// `SessionLog.SessionStatus.START`: invalidates earlier events of this step and later ones.
pub(super) const START: i32 = 1;

/// A record of an event file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Time of the event in seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Training step of the event, from 0.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// The contents of the event.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// The contents of an event.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// The version of the format; always the first record of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values measured at a step.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// The start or end of a program.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values measured at one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// The values, one per tag.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// `Summary.Value`: a named number or text.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name under which TensorBoard shows the value.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value if it is a number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// The value if it is a text.
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<TensorProto>,
    /// The plugin that shows the value, if it is not a number.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
}

/// How TensorBoard shows a value.
#[derive(Clone, PartialEq, Message)]
pub struct SummaryMetadata {
    /// The plugin that shows it.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    /// The class of the value, such as [`TENSOR`].
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// `SummaryMetadata.PluginData`: identifies a plugin.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    /// Name of the plugin, such as `text`.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// A tensor; it has no dimensions unless some are given.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Type of the elements, such as [`STRING`].
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Dimensions of the tensor.
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShapeProto>,
    /// The elements, if they are strings.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

/// Dimensions of a tensor; empty for all tensors written here.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {}

/// The start or end of a program that writes events.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// Whether it is a start or an end, such as [`START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}
