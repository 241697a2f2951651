//! Runs a pickle's instructions on a stack of values.

use std::collections::HashMap;

use super::names::{Known, is_hostile};
use super::value::{Object, Pickle, Value};

/// Why a pickle was rejected.
#[derive(Debug)]
pub(in crate::formats::torch) enum PickleError {
    /// It refers to a name that only an attack needs.
    Refused(String),
    /// It is truncated or not a pickle.
    Damaged { at: usize, reason: String },
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, PickleError> {
        let mut machine = Machine::new(bytes);
        machine.run().map_err(|rejection| match rejection {
            Rejection::Name(name) => PickleError::Refused(name),
            Rejection::Reason(reason) => PickleError::Damaged { at: machine.instruction, reason },
        })
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
    objects: Vec<Object<'a>>,
    /// Module and name of each class and function without a meaning here.
    names: Vec<(&'a str, &'a str)>,
    /// Index in `names` by the positions and lengths of module and name in the pickle.
    name_indices: HashMap<[usize; 4], usize>,
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
            objects: Vec::new(),
            names: Vec::new(),
            name_indices: HashMap::new(),
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
            objects: std::mem::take(&mut self.objects),
            names: std::mem::take(&mut self.names),
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
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(code),
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
            // An object that is a kind of list; nothing here reads such a list.
            Value::Object(_) => Ok(()),
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
        let dict = match self.top()? {
            Value::Dict(dict) => dict,
            Value::Object(object) => self.entries_of(object),
            _ => return wrong("it sets a key of what is no dict"),
        };
        self.dicts[dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn object(&mut self, code: u8) -> Outcome {
        match code {
            b'c' | 0x93 => {
                let (module, name) = if code == b'c' { (self.line()?, self.line()?) } else { self.two_strings()? };
                self.name(module, name)
            }
            b'Q' => match self.pop()? {
                Value::Tuple(identity) => {
                    self.persistent.push(identity);
                    self.push(Value::Persistent(identity))
                }
                _ => wrong("something outside the pickle that no tuple identifies"),
            },
            b'b' => {
                let state = self.pop()?;
                self.set_state(state)
            }
            0x92 => {
                // Named arguments, which only opaque objects have.
                let (_, arguments, function) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(function, arguments)
            }
            _ => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)
            }
        }
    }

    fn name(&mut self, module: &'a str, name: &'a str) -> Outcome {
        if is_hostile(module, name) {
            return Err(Rejection::Name(format!("{module}.{name}")));
        }
        if let Some(known) = Known::of(module, name) {
            return self.push(Value::Known(known));
        }
        // A name of megabytes may be recalled many times, and is stored once.
        let key = [module.as_ptr() as usize, module.len(), name.as_ptr() as usize, name.len()];
        let index = *self.name_indices.entry(key).or_insert_with(|| {
            self.names.push((module, name));
            self.names.len() - 1
        });
        self.push(Value::Foreign(index))
    }

    fn two_strings(&mut self) -> Outcome<(&'a str, &'a str)> {
        match (self.pop()?, self.pop()?) {
            (Value::Str(name), Value::Str(module)) => Ok((module, name)),
            _ => wrong("a name that is no string"),
        }
    }

    /// Sets the attributes of the value on top: those of a dict besides its entries, such as a state_dict's `_metadata`,
    /// are of no use here.
    fn set_state(&mut self, state: Value<'a>) -> Outcome {
        match self.top()? {
            Value::Dict(_) => Ok(()),
            Value::Object(object) => {
                self.objects[object].state = Some(state);
                Ok(())
            }
            Value::Known(known) | Value::Call(known, _) => {
                Err(Rejection::Name(format!("__setstate__ of {}", known.name())))
            }
            _ => wrong("it sets attributes of what has none"),
        }
    }

    fn call(&mut self, function: Value<'a>, arguments: Value<'a>) -> Outcome {
        match (function, arguments) {
            (Value::Known(known), Value::Tuple(arguments)) => self.call_known(known, arguments),
            (Value::Foreign(name), Value::Tuple(_)) => self.new_object(name),
            // What a function returned is called, as for an object's method.
            (Value::Object(object), Value::Tuple(_)) => self.new_object(self.objects[object].name),
            _ => wrong("it calls what is no name, or without a tuple of arguments"),
        }
    }

    fn call_known(&mut self, known: Known, arguments: usize) -> Outcome {
        match known {
            Known::OrderedDict if self.sequences[arguments].is_empty() => {
                self.dicts.push(Vec::new());
                self.push(Value::Dict(self.dicts.len() - 1))
            }
            // Copied arguments could exceed the pickle's size many times; PyTorch sets the entries one by one.
            Known::OrderedDict => {
                self.names.push(("collections", "OrderedDict"));
                self.new_object(self.names.len() - 1)
            }
            Known::Tensor | Known::Parameter | Known::TensorOfClass => self.push(Value::Call(known, arguments)),
            Known::Storage(_) => Err(Rejection::Name(known.name().to_owned())),
        }
    }

    fn new_object(&mut self, name: usize) -> Outcome {
        self.objects.push(Object { name, state: None, entries: None });
        self.push(Value::Object(self.objects.len() - 1))
    }

    /// The index of the entries of the object on top, which is a kind of dict.
    fn entries_of(&mut self, object: usize) -> usize {
        match self.objects[object].entries {
            Some(dict) => dict,
            None => {
                self.dicts.push(Vec::new());
                *self.objects[object].entries.insert(self.dicts.len() - 1)
            }
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
