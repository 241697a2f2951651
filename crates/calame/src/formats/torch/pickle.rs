//! Reads pickles as data: numbers, strings, containers, and the few names with which PyTorch describes tensors.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This machine has no functions:
//! the names below are stored together with their arguments, any other name is an error, and nothing is ever executed.
//! Memory is proportional to the size of the pickle, because an instruction creates at most one value and containers
//! are referenced, not copied.
//! Source of the instructions: CPython's `Lib/pickletools.py`, protocols 2 to 5.

use std::collections::HashMap;

use super::read::TorchDtype;

/// The names that a pickle may refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    /// `collections.OrderedDict`; a call creates an empty dict.
    OrderedDict,
    /// The function `torch._utils._rebuild_tensor_v2`, which creates a view of a storage.
    Tensor,
    /// The function `torch._utils._rebuild_parameter`, which wraps a tensor.
    Parameter,
    /// A storage type such as `torch.FloatStorage`.
    Storage(TorchDtype),
}

impl Known {
    fn of(module: &str, name: &str) -> Option<Known> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Known::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Known::Tensor),
            ("torch._utils", "_rebuild_parameter") => Some(Known::Parameter),
            ("torch", name) => TorchDtype::of_storage(name).map(Known::Storage),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Known::OrderedDict => "collections.OrderedDict",
            Known::Tensor => "torch._utils._rebuild_tensor_v2",
            Known::Parameter => "torch._utils._rebuild_parameter",
            Known::Storage(_) => "a storage's type",
        }
    }
}

/// A value; containers are indices into a `Pickle`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, least significant byte first.
    Long(&'a [u8]),
    Float(f64),
    Str(&'a str),
    Bytes,
    /// A list or set.
    List(usize),
    Tuple(usize),
    /// A dict or `OrderedDict`.
    Dict(usize),
    Known(Known),
    /// A call that was not executed: the function's name and the tuple of its arguments.
    Call(Known, usize),
    /// A reference to something outside the pickle, such as a storage.
    Persistent(usize),
}

/// The contents of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub root: Value<'a>,
    /// Size of the pickle in bytes; more data may follow it.
    pub n_bytes: usize,
    /// Indices of the sequences that identify outside objects, in order.
    pub persistent: Vec<usize>,
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
}

/// Why a pickle was rejected.
#[derive(Debug)]
pub(super) enum PickleError {
    /// It refers to a name that is not allowed.
    Refused(String),
    /// It is truncated or not a pickle.
    Damaged { at: usize, reason: String },
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, PickleError> {
        let mut machine = Machine::new(bytes);
        machine.run().map_err(|trouble| match trouble {
            Rejection::Name(name) => PickleError::Refused(name),
            Rejection::Reason(reason) => PickleError::Damaged { at: machine.instruction, reason },
        })
    }

    /// The items of a list or tuple, the arguments of a call, or the identity of an outside object.
    pub fn items(&self, sequence: usize) -> &[Value<'a>] {
        &self.sequences[sequence]
    }

    /// The entries of a dict in the order in which they were set. A key may occur twice; the later one is valid.
    pub fn entries(&self, dict: usize) -> &[(Value<'a>, Value<'a>)] {
        &self.dicts[dict]
    }
}

enum Rejection {
    Name(String),
    Reason(String),
}

type Outcome<T = ()> = Result<T, Rejection>;

fn wrong<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Rejection::Reason(reason.into()))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Position of the current instruction.
    instruction: usize,
    stack: Vec<Value<'a>>,
    /// Stack heights; values below the last mark are not accessible until it is removed.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    persistent: Vec<usize>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Machine<'a> {
        Machine {
            bytes,
            at: 0,
            instruction: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            sequences: Vec::new(),
            dicts: Vec::new(),
            persistent: Vec::new(),
        }
    }

    fn run(&mut self) -> Outcome<Pickle<'a>> {
        match self.take(2)? {
            [0x80, 2..=5] => {}
            [0x80, protocol] => return wrong(format!("protocol {protocol}, expected 2 to 5")),
            _ => return wrong("it does not begin as a pickle of protocol 2 to 5 does"),
        }
        loop {
            self.instruction = self.at;
            match self.take(1)?[0] {
                b'.' => break,
                code => self.step(code)?,
            }
        }
        let root = self.pop()?;
        if !self.stack.is_empty() {
            return wrong("it ends with more than one value");
        }
        Ok(Pickle {
            root,
            n_bytes: self.at,
            persistent: std::mem::take(&mut self.persistent),
            sequences: std::mem::take(&mut self.sequences),
            dicts: std::mem::take(&mut self.dicts),
        })
    }

    fn step(&mut self, code: u8) -> Outcome {
        match code {
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(code),
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.string(code),
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(code),
            b')' | 0x85..=0x87 | b't' => self.tuple(code),
            b']' | 0x8f | b'l' | 0x91 | b'a' | b'e' | 0x90 => self.list(code),
            b'}' | b'd' | b's' | b'u' => self.dict(code),
            b'c' | 0x93 | b'R' | 0x81 | b'b' | b'Q' => self.object(code),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(code),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            // A frame only announces how many bytes can be read ahead.
            0x95 => self.length(8).map(drop),
            _ => wrong(format!("instruction {code:#04x} has no place in a file of tensors")),
        }
    }

    // Bytes.

    fn take(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..n) else {
            return wrong(format!("it is truncated: {n} bytes expected, {} found", rest.len()));
        };
        self.at += n;
        Ok(taken)
    }

    /// A little-endian number of up to eight bytes.
    fn unsigned(&mut self, width: usize) -> Outcome<u64> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    /// Reads a length, which must not exceed the remaining bytes.
    fn length(&mut self, width: usize) -> Outcome<usize> {
        let (n, rest) = (self.unsigned(width)?, self.bytes.len() - self.at);
        match usize::try_from(n) {
            Ok(n) if n <= rest => Ok(n),
            _ => wrong(format!("it claims {n} bytes, {rest} follow")),
        }
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return wrong("a name without an end");
        };
        let line = self.text(end)?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, n: usize) -> Outcome<&'a str> {
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).or_else(|_| wrong("a string that is not UTF-8"))
    }

    // The stack.

    fn push(&mut self, value: Value<'a>) -> Outcome {
        self.stack.push(value);
        Ok(())
    }

    fn top(&self) -> Outcome<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(value) if self.stack.len() > floor => Ok(*value),
            _ => wrong("it takes a value where there is none"),
        }
    }

    fn pop(&mut self) -> Outcome<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Outcome<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => wrong("it refers to a mark that does not exist"),
        }
    }

    fn new_sequence(&mut self, items: Vec<Value<'a>>) -> usize {
        self.sequences.push(items);
        self.sequences.len() - 1
    }

    // The instructions.

    fn number(&mut self, code: u8) -> Outcome {
        let value = match code {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(code == 0x88),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'G' => Value::Float(f64::from_bits((self.unsigned(8)?).swap_bytes())),
            _ => {
                let n = self.length(if code == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(n)?;
                let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { -1 } else { 0 };
                match n {
                    0..=8 => Value::Int(bytes.iter().rev().fold(sign, |n, &byte| n << 8 | i64::from(byte))),
                    _ => Value::Long(bytes),
                }
            }
        };
        self.push(value)
    }

    fn string(&mut self, code: u8) -> Outcome {
        let width = match code {
            0x8c | b'U' => 1,
            0x8d => 8,
            _ => 4,
        };
        let n = self.length(width)?;
        let text = self.text(n)?;
        self.push(Value::Str(text))
    }

    fn bytes(&mut self, code: u8) -> Outcome {
        let width = match code {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        };
        let n = self.length(width)?;
        self.take(n)?;
        self.push(Value::Bytes)
    }

    fn tuple(&mut self, code: u8) -> Outcome {
        let items = match code {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => {
                let n = usize::from(code - 0x84);
                let mut items = Vec::with_capacity(n);
                for _ in 0..n {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        let tuple = self.new_sequence(items);
        self.push(Value::Tuple(tuple))
    }

    fn list(&mut self, code: u8) -> Outcome {
        let items = match code {
            b']' | 0x8f => Vec::new(),
            b'a' => vec![self.pop()?],
            _ => self.pop_to_mark()?,
        };
        if matches!(code, b']' | 0x8f | b'l' | 0x91) {
            let list = self.new_sequence(items);
            return self.push(Value::List(list));
        }
        match self.top()? {
            Value::List(list) => {
                self.sequences[list].extend(items);
                Ok(())
            }
            _ => wrong("it appends to what is no list"),
        }
    }

    fn dict(&mut self, code: u8) -> Outcome {
        let items = match code {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        if !items.len().is_multiple_of(2) {
            return wrong("a key without a value");
        }
        if matches!(code, b'}' | b'd') {
            self.dicts.push(Vec::new());
            self.push(Value::Dict(self.dicts.len() - 1))?;
        }
        match self.top()? {
            Value::Dict(dict) => {
                self.dicts[dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => wrong("it sets a key of what is no dict"),
        }
    }

    fn object(&mut self, code: u8) -> Outcome {
        match code {
            b'c' | 0x93 => {
                let (module, name) = if code == b'c' { (self.line()?, self.line()?) } else { self.two_strings()? };
                let known = Known::of(module, name).ok_or_else(|| Rejection::Name(format!("{module}.{name}")))?;
                self.push(Value::Known(known))
            }
            b'Q' => match self.pop()? {
                Value::Tuple(identity) => {
                    self.persistent.push(identity);
                    self.push(Value::Persistent(identity))
                }
                _ => wrong("something outside the pickle that no tuple identifies"),
            },
            b'b' => {
                self.pop()?;
                // The state consists of attributes besides the entries, such as a state_dict's `_metadata`.
                match self.top()? {
                    Value::Dict(_) => Ok(()),
                    Value::Known(known) | Value::Call(known, _) => {
                        Err(Rejection::Name(format!("__setstate__ of {}", known.name())))
                    }
                    _ => wrong("it sets attributes of what has none"),
                }
            }
            _ => {
                let arguments = self.pop()?;
                match (self.pop()?, arguments) {
                    (Value::Known(known), Value::Tuple(arguments)) => self.call(known, arguments),
                    _ => wrong("it calls what is no name, or without a tuple of arguments"),
                }
            }
        }
    }

    fn two_strings(&mut self) -> Outcome<(&'a str, &'a str)> {
        match (self.pop()?, self.pop()?) {
            (Value::Str(name), Value::Str(module)) => Ok((module, name)),
            _ => wrong("a name that is no string"),
        }
    }

    fn call(&mut self, known: Known, arguments: usize) -> Outcome {
        match known {
            Known::OrderedDict if self.sequences[arguments].is_empty() => {
                self.dicts.push(Vec::new());
                self.push(Value::Dict(self.dicts.len() - 1))
            }
            // Copied arguments could exceed the pickle's size many times; PyTorch sets the entries one by one.
            Known::OrderedDict => wrong("an OrderedDict made with arguments"),
            Known::Tensor | Known::Parameter => self.push(Value::Call(known, arguments)),
            Known::Storage(_) => Err(Rejection::Name(known.name().to_owned())),
        }
    }

    fn memory(&mut self, code: u8) -> Outcome {
        let place = match code {
            0x94 => self.memo.len(),
            b'q' | b'h' => self.unsigned(1)? as usize,
            _ => self.unsigned(4)? as usize,
        };
        if matches!(code, b'h' | b'j') {
            return match self.memo.get(&place) {
                Some(value) => self.push(*value),
                None => wrong(format!("it recalls value {place}, which was not stored")),
            };
        }
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }
}
