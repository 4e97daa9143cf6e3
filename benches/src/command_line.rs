//! Command lines of the measuring programs: options, most of them with a value.

use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use crate::error::{Result, RigError};

/// What a program's command line sets.
pub trait Options: Default {
    /// Takes one option, and what belongs to it.
    ///
    /// # Errors
    /// With what would be right.
    fn set(&mut self, given: &mut Given<'_>) -> Result<()>;
}

/// Reads a command line; `None` asks for help.
///
/// # Errors
/// With what would be right.
pub fn parse<O: Options>(arguments: impl IntoIterator<Item = String>) -> Result<Option<O>> {
    let mut options = O::default();
    let mut rest = arguments.into_iter().collect::<Vec<_>>().into_iter().peekable();
    while let Some(option) = rest.next() {
        if option == "--help" || option == "-h" {
            return Ok(None);
        }
        options.set(&mut Given { option: &option, rest: &mut rest })?;
    }
    Ok(Some(options))
}

/// An option, and what follows it.
#[derive(Debug)]
pub struct Given<'g> {
    option: &'g str,
    rest: &'g mut Peekable<IntoIter<String>>,
}

impl<'g> Given<'g> {
    /// The option as it was written, as `--rounds`.
    #[must_use]
    pub fn option(&self) -> &'g str {
        self.option
    }

    /// Its value.
    ///
    /// # Errors
    /// If it has none.
    pub fn value(&mut self) -> Result<String> {
        let missing = || RigError::new(format!("{} needs a value (see --help)", self.option));
        self.rest.next().ok_or_else(missing)
    }

    /// Its value, which may be left out before another option or at the end.
    pub fn optional_value(&mut self) -> Option<String> {
        self.rest.next_if(|next| !next.starts_with("--"))
    }

    /// Its value, a number above 0.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(&mut self) -> Result<u32> {
        let value = self.value()?;
        match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => {
                let option = self.option;
                Err(RigError::new(format!("{option} takes a number above 0, not {value:?}")))
            }
        }
    }

    /// Its value, a number above 0 of milliseconds.
    ///
    /// # Errors
    /// If it is none.
    pub fn milliseconds(&mut self) -> Result<Duration> {
        self.number().map(|number| Duration::from_millis(number.into()))
    }

    /// Its value, a list with commas.
    ///
    /// # Errors
    /// The first that reading an item gave.
    pub fn list<T>(&mut self, item: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
        self.value()?.split(',').map(item).collect()
    }

    /// Its value, a list of some `what` that have names.
    ///
    /// # Errors
    /// If there is none of a name; says which there are.
    pub fn named<T: Copy>(
        &mut self,
        what: &str,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<Vec<T>> {
        self.list(|wanted| {
            let found = all.iter().find(|&&one| name(one) == wanted);
            found.copied().ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|&one| name(one)).collect();
                let known = known.join(", ");
                RigError::new(format!("unknown {what} {wanted:?}: there are {known}"))
            })
        })
    }

    /// Refuses an option that the program does not have.
    ///
    /// # Errors
    /// Always.
    pub fn refuse(&self) -> Result<()> {
        Err(RigError::new(format!("unknown option {} (see --help)", self.option)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Rig {
        count: u32,
        length: Duration,
        colours: Vec<char>,
        wire: Option<Option<String>>,
    }

    impl Options for Rig {
        fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
            match given.option() {
                "--count" => self.count = given.number()?,
                "--length" => self.length = given.milliseconds()?,
                "--colours" => self.colours = given.named("colour", &['r', 'g'], name)?,
                "--wire" => self.wire = Some(given.optional_value()),
                _ => given.refuse()?,
            }
            Ok(())
        }
    }

    fn name(colour: char) -> &'static str {
        if colour == 'r' { "red" } else { "green" }
    }

    fn read(line: &str) -> Result<Option<Rig>> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn options_are_taken_with_their_values() {
        let line = "--wire --count 3 --colours green,red --length 20";
        let expected = Rig {
            count: 3,
            length: Duration::from_millis(20),
            colours: vec!['g', 'r'],
            wire: Some(None),
        };
        assert_eq!(read(line).unwrap(), Some(expected));
        let wire = read("--wire ./w").unwrap().unwrap().wire;
        assert_eq!(wire, Some(Some("./w".to_owned())));
        assert_eq!(read("--count 3 -h").unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (line, said) in [
            ("--count", "--count needs a value (see --help)"),
            ("--count 0", "--count takes a number above 0, not \"0\""),
            ("--length x", "--length takes a number above 0, not \"x\""),
            ("--colours red,blue", "unknown colour \"blue\": there are red, green"),
            ("--size 1", "unknown option --size (see --help)"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), said);
        }
    }
}
