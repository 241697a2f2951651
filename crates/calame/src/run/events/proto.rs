//! The part of TensorFlow's event format that scalars and texts need, as Protocol Buffers messages.
//!
//! Field numbers are those of `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto` in
//! tensorflow/core/framework and tensorflow/core/util; fields that are not declared here are passed over. Declared by hand,
//! as ONNX's are (checkpoint/onnx/proto.rs).

use prost::{Message, Oneof};

/// `DataType.DT_STRING`.
pub(super) const STRING: i32 = 7;
/// `DataClass.DATA_CLASS_TENSOR`.
pub(super) const TENSOR: i32 = 2;
/// `SessionLog.SessionStatus.START`: events of this step and later ones, written before, are void.
pub(super) const START: i32 = 1;

/// One record of an event file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// What it tells.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// What an event tells.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// The first record of a file: the format's version.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A start or an end.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values of one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// One for each tag.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// A text.
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<TensorProto>,
    /// Which of TensorBoard's plugins shows it, where it is no number.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
}

/// How a value is shown.
#[derive(Clone, PartialEq, Message)]
pub struct SummaryMetadata {
    /// By which plugin.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    /// Of which kind the value is.
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// `SummaryMetadata.PluginData`.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    /// The plugin.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// A tensor; of no dimensions where none are given.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Of which type its elements are.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Its dimensions.
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShapeProto>,
    /// Its elements, if they are texts.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

/// Dimensions: none of ours has any.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {}

/// A start or an end of a program that writes events.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// Which.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
