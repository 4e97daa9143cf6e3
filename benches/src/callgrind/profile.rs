//! What callgrind writes with `--dump-instr=yes`: the instructions executed at each address, and
//! behind each call.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::callgrind::place::Places;
use crate::error::{Result, RigError};

/// A function, as the program's symbols have it.
#[derive(Debug, Default)]
struct Function {
    /// The program, or a library of it.
    object: String,
    name: String,
    /// Address in the object, and instructions executed there.
    own: Vec<(u64, u64)>,
    calls: Vec<Call>,
}

/// Calls from one address to one function.
#[derive(Debug)]
struct Call {
    address: u64,
    /// Which of the profile's functions.
    callee: usize,
    /// Instructions executed in it and in all that it called.
    inclusive: u64,
}

/// What was executed, function by function.
#[derive(Debug, Default)]
pub struct Profile {
    functions: Vec<Function>,
}

/// Where the reader is in the file.
#[derive(Debug, Default)]
struct Reader {
    profile: Profile,
    numbers: HashMap<(String, String), usize>,
    object: String,
    /// The function whose lines these are.
    function: Option<usize>,
    /// The object of the next callee, if it is another.
    callee_object: Option<String>,
    callee: Option<usize>,
    /// Whether the next line of cost is a call's.
    behind: Behind,
}

/// What a line of cost belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Behind {
    #[default]
    Position,
    Call,
}

impl Profile {
    /// Reads callgrind's file, names and positions in full (`--compress-strings=no`,
    /// `--compress-pos=no`).
    ///
    /// # Errors
    /// With the line that is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.lines().any(|line| line.trim() == "positions: instr line") {
            return Err(RigError::new("no line `positions: instr line`: use --dump-instr=yes"));
        }
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            let understood = reader.read(line);
            understood.ok_or_else(|| {
                let number = index + 1;
                RigError::new(format!("line {number} is not understood: {line:?}"))
            })?;
        }
        Ok(reader.profile)
    }

    /// All instructions executed.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.functions.iter().flat_map(|function| &function.own).map(|(_, count)| count).sum()
    }

    /// Addresses at which something was executed, or called, by their objects.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut found = BTreeMap::<_, BTreeSet<u64>>::new();
        for function in &self.functions {
            let addresses = found.entry(function.object.clone()).or_default();
            addresses.extend(function.own.iter().map(|(address, _)| address));
            addresses.extend(function.calls.iter().map(|call| call.address));
        }
        found
    }

    /// Charges each instruction to a function of ours: to the innermost that was inlined where it
    /// stands. What others' functions execute that call none of ours (memcpy) is charged to who
    /// called them. Sums up to [`Profile::total`].
    #[must_use]
    pub fn charge(&self, places: &Places) -> BTreeMap<String, u64> {
        let foreign = self.foreign(places);
        let mut charged = BTreeMap::new();
        let mut charge = |function: &Function, address, count| {
            let place = places.at(&function.object, address);
            let name = place.map_or_else(|| function.name.clone(), ToOwned::to_owned);
            *charged.entry(name).or_default() += count;
        };
        for (function, _) in self.functions.iter().zip(&foreign).filter(|(_, foreign)| !**foreign) {
            for &(address, count) in &function.own {
                charge(function, address, count);
            }
            for call in function.calls.iter().filter(|call| foreign[call.callee]) {
                charge(function, call.address, call.inclusive);
            }
        }
        charged
    }

    /// Of each function, whether neither it nor anything that it calls is ours. A function that
    /// nobody called is nobody's to pay for, and stands for itself.
    fn foreign(&self, places: &Places) -> Vec<bool> {
        let mut called = vec![false; self.functions.len()];
        for call in self.functions.iter().flat_map(|function| &function.calls) {
            called[call.callee] = true;
        }
        let mut foreign: Vec<bool> = self
            .functions
            .iter()
            .zip(called)
            .map(|(function, called)| {
                let place = |(address, _): &(u64, u64)| places.at(&function.object, *address);
                called && function.own.iter().all(|own| place(own).is_none())
            })
            .collect();
        loop {
            let mixed: Vec<usize> = (0..foreign.len())
                .filter(|&one| {
                    let calls = &self.functions[one].calls;
                    foreign[one] && calls.iter().any(|call| !foreign[call.callee])
                })
                .collect();
            if mixed.is_empty() {
                return foreign;
            }
            mixed.into_iter().for_each(|one| foreign[one] = false);
        }
    }
}

impl Reader {
    /// Takes one line; `None` if it makes no sense.
    fn read(&mut self, line: &str) -> Option<()> {
        if line.starts_with("0x") {
            return self.cost(line);
        }
        // Of the head no line has an equals sign right behind its first word.
        let Some((key, value)) = line.split_once('=') else { return Some(()) };
        match key {
            "ob" => value.clone_into(&mut self.object),
            "fn" => self.function = Some(self.number(self.object.clone(), value)),
            "cob" => self.callee_object = Some(value.to_owned()),
            "cfn" => {
                let object = self.callee_object.take().unwrap_or_else(|| self.object.clone());
                self.callee = Some(self.number(object, value));
            }
            "calls" => self.behind = Behind::Call,
            _ => {}
        }
        Some(())
    }

    /// `ADDRESS LINE COUNT`.
    fn cost(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let count = words.nth(1)?.parse().ok()?;
        let function = &mut self.profile.functions[self.function?];
        match std::mem::take(&mut self.behind) {
            Behind::Position => function.own.push((address, count)),
            Behind::Call => {
                let callee = self.callee?;
                function.calls.push(Call { address, callee, inclusive: count });
            }
        }
        Some(())
    }

    fn number(&mut self, object: String, name: &str) -> usize {
        let functions = &mut self.profile.functions;
        let key = (object, name.to_owned());
        *self.numbers.entry(key).or_insert_with_key(|(object, name)| {
            let (object, name) = (object.clone(), name.clone());
            functions.push(Function { object, name, ..Function::default() });
            functions.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `main` calls ours, ours calls memcpy through a stub, and std, which calls ours again.
    const FILE: &str = "\
# callgrind format
cmd: ./breath --x=3
positions: instr line
events: Ir
summary: 158

ob=/lib/libc.so.6
fl=x.S
fn=memcpy
0x900 7 40
fn=(below main)
0x910 7 1
cob=/bin/breath
cfi=main.rs
cfn=main
calls=1 0x100 5
0x914 7 157

ob=/bin/breath
fl=main.rs
fn=main
0x100 5 2
cfn=breathe
calls=1 0x200 9
0x104 5 155

fl=breathe.rs
fn=breathe
0x200 9 50
fi=slice.rs
0x204 9 20
cfn=stub
calls=10 0x300 0
0x208 9 45
fe=breathe.rs
cfn=retain
calls=1 0x400 1
0x20c 9 40

fl=???
fn=stub
0x300 0 5
cob=/lib/libc.so.6
cfn=memcpy
calls=10 0x900 7
0x300 0 40

fl=std.rs
fn=retain
0x400 0 10
cfn=closure
calls=3 0x500 7
0x404 0 30
fl=breathe.rs
fn=closure
0x500 0 30
";

    fn places() -> Places {
        let places = [(0x100, "main"), (0x200, "breathe"), (0x204, "inlined"), (0x208, "copy")];
        let places = places.into_iter().chain([(0x20c, "breathe"), (0x500, "closure")]);
        Places::made("/bin/breath", places)
    }

    #[test]
    fn others_functions_are_charged_to_who_calls_them() {
        let profile = Profile::parse(FILE).unwrap();
        assert_eq!(profile.total(), 158);
        let charged = profile.charge(&places());
        let expected = [
            ("(below main)", 1),
            ("main", 2),
            ("breathe", 50),
            ("inlined", 20),
            ("copy", 45),
            // It calls one of ours, so it is not its caller's.
            ("retain", 10),
            ("closure", 30),
        ];
        assert_eq!(charged, expected.map(|(name, count)| (name.to_owned(), count)).into());
        assert_eq!(charged.values().sum::<u64>(), profile.total());
    }

    #[test]
    fn addresses_are_those_of_instructions_and_of_calls() {
        let addresses = Profile::parse(FILE).unwrap().addresses();
        assert_eq!(addresses["/lib/libc.so.6"], [0x900, 0x910, 0x914].into());
        assert!(addresses["/bin/breath"].is_superset(&[0x208, 0x20c, 0x300, 0x404].into()));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let said = Profile::parse("positions: line\n").unwrap_err().to_string();
        assert!(said.contains("--dump-instr=yes"), "{said}");
        let said = Profile::parse("positions: instr line\nfn=a\n0x10 9\n").unwrap_err().to_string();
        assert_eq!(said, "line 3 is not understood: \"0x10 9\"");
        let said = Profile::parse("positions: instr line\n0x10 9 1\n").unwrap_err().to_string();
        assert_eq!(said, "line 2 is not understood: \"0x10 9 1\"");
    }
}
