//! Writes the pickle of a state_dict: an OrderedDict of tensors, as `torch.save` pickles it.
//!
//! Uses protocol 2 without a memo. Source: Python's `pickletools.py`; PyTorch's `torch/_utils.py`,
//! `_rebuild_tensor_v2`.

const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";

/// A tensor of the state_dict, which covers a whole storage.
pub(super) struct View {
    pub key: String,
    pub shape: Vec<usize>,
    pub storage: usize,
}

/// The pickle of `views`, which are f32 and row-major; `storages[i]` is the number of elements in storage i.
pub(super) fn state_dict(views: &[View], storages: &[usize]) -> Vec<u8> {
    let mut to = b"\x80\x02".to_vec();
    to.extend(ORDERED_DICT);
    to.push(b'(');
    for view in views {
        string(&mut to, &view.key);
        tensor(&mut to, view, storages[view.storage]);
    }
    to.extend(b"u.");
    to
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)`.
fn tensor(to: &mut Vec<u8>, view: &View, n_elements: usize) {
    to.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    string(to, "storage");
    to.extend(b"ctorch\nFloatStorage\n");
    string(to, &view.storage.to_string());
    string(to, "cpu");
    int(to, n_elements);
    to.extend(b"tQ");
    int(to, 0);
    ints(to, &view.shape);
    ints(to, &strides(&view.shape));
    // False: the tensor is not a parameter and requires no gradient.
    to.push(0x89);
    to.extend(ORDERED_DICT);
    to.extend(b"tR");
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (1..=shape.len()).map(|i| shape[i..].iter().product()).collect()
}

fn ints(to: &mut Vec<u8>, numbers: &[usize]) {
    to.push(b'(');
    numbers.iter().for_each(|&n| int(to, n));
    to.push(b't');
}

fn int(to: &mut Vec<u8>, n: usize) {
    match i32::try_from(n) {
        Ok(n) => {
            to.push(b'J');
            to.extend(n.to_le_bytes());
        }
        // No file has 2⁶³ elements, so the sign bit is free.
        Err(_) => {
            to.extend([0x8a, 8]);
            to.extend((n as i64).to_le_bytes());
        }
    }
}

fn string(to: &mut Vec<u8>, text: &str) {
    to.push(b'X');
    to.extend((text.len() as u32).to_le_bytes());
    to.extend(text.bytes());
}
