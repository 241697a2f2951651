//! Builds a graph: its nodes and the constants they use.

use super::proto::{
    AttributeProto, DimensionProto, FLOAT, INT32, INT64, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dim<'a> {
    /// The same size in every call.
    Fixed(usize),
    /// A size chosen by the caller; equal names mean equal sizes.
    Free(&'a str),
}

/// Nodes in execution order, and constants.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub nodes: Vec<NodeProto>,
    pub constants: Vec<TensorProto>,
}

impl Graph {
    /// Adds a node with one output and returns the output's name, which is also the node's.
    pub fn add(&mut self, op: &str, inputs: &[&str], output: &str, settings: Vec<AttributeProto>) -> String {
        self.add_several(op, inputs, output, &[output], settings);
        output.to_owned()
    }

    /// Adds a node with any number of outputs.
    pub fn add_several(
        &mut self,
        op: &str,
        inputs: &[&str],
        name: &str,
        outputs: &[&str],
        settings: Vec<AttributeProto>,
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.nodes.push(NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute: settings,
        });
    }

    /// Adds a float constant under this name.
    pub fn float(&mut self, name: &str, x: f32) {
        self.constant(name, FLOAT, &[], x.to_le_bytes().to_vec());
    }

    /// Adds a 64-bit integer constant under this name.
    pub fn int(&mut self, name: &str, x: i64) {
        self.constant(name, INT64, &[], x.to_le_bytes().to_vec());
    }

    /// Adds a 32-bit integer constant under this name.
    pub fn int32(&mut self, name: &str, x: i32) {
        self.constant(name, INT32, &[], x.to_le_bytes().to_vec());
    }

    /// Adds a constant list of 64-bit integers under this name.
    pub fn ints(&mut self, name: &str, xs: &[i64]) {
        self.constant(name, INT64, &[xs.len() as i64], xs.iter().flat_map(|x| x.to_le_bytes()).collect());
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[i64], bytes: Vec<u8>) {
        self.constants.push(TensorProto {
            dims: dims.to_vec(),
            data_type,
            name: name.to_owned(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
    }
}

/// Declares an input or output of the graph.
pub(super) fn value(name: &str, elem_type: i32, dims: &[Dim<'_>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| match *dim {
            Dim::Fixed(n) => DimensionProto { dim_value: Some(n as i64), dim_param: None },
            Dim::Free(name) => DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) },
        })
        .collect();
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}
