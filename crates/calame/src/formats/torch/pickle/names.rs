//! The names that a pickle may refer to, and those for which a file is refused.

use crate::formats::torch::read::TorchDtype;

/// The names that have a meaning here. All others create opaque objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::formats::torch) enum Known {
    /// `collections.OrderedDict`; a call creates an empty dict.
    OrderedDict,
    /// The function `torch._utils._rebuild_tensor_v2`, which creates a view of a storage.
    Tensor,
    /// The functions `torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`, which wrap a tensor.
    Parameter,
    /// The function `torch._tensor._rebuild_from_type_v2`, which creates a tensor of a subclass or with attributes.
    TensorOfClass,
    /// A storage type such as `torch.FloatStorage`.
    Storage(TorchDtype),
}

impl Known {
    pub(super) fn of(module: &str, name: &str) -> Option<Known> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Known::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Known::Tensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Known::Parameter),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Known::TensorOfClass),
            ("torch", name) => TorchDtype::of_storage(name).map(Known::Storage),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Known::OrderedDict => "collections.OrderedDict",
            Known::Tensor => "torch._utils._rebuild_tensor_v2",
            Known::Parameter => "torch._utils._rebuild_parameter",
            Known::TensorOfClass => "torch._tensor._rebuild_from_type_v2",
            Known::Storage(_) => "a storage's type",
        }
    }
}

/// Modules whose functions run programs, open files and connections, or load code.
const HOSTILE_MODULES: [&str; 16] = [
    "asyncio",
    "code",
    "commands",
    "ctypes",
    "importlib",
    "nt",
    "os",
    "popen2",
    "posix",
    "pty",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "webbrowser",
];
/// Functions of Python itself that do so.
const HOSTILE_BUILTINS: [&str; 8] =
    ["__import__", "breakpoint", "compile", "eval", "exec", "execfile", "input", "open"];

/// Whether only an attack refers to this name. Refusing such a file protects other programs, which would execute it; here
/// it would do nothing.
pub(super) fn is_hostile(module: &str, name: &str) -> bool {
    match module.split('.').next() {
        Some("builtins" | "__builtin__") => HOSTILE_BUILTINS.contains(&name),
        Some(first) => HOSTILE_MODULES.contains(&first),
        None => false,
    }
}
