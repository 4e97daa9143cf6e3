//! Rust sources as the tidiness test reads them: which characters are code,
//! which are comments, which are text in quotes; without the test modules.

use std::fs;
use std::path::{Path, PathBuf};

/// What a character of a source file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Code,
    Comment,
    Quoted,
}

/// A source file.
#[derive(Debug)]
pub struct Source {
    /// Its path, from the repository's root.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Its code: comments and quoted text are spaces, lines stay where they are.
    pub code: String,
    /// Its code but for what is compiled for unit tests only.
    pub shipped: String,
}

impl Source {
    /// Reads a file below the root.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).expect("a source file is text");
        let path = path.strip_prefix(root).expect("it lies below the root");
        Source::of(&path.to_string_lossy(), &text)
    }

    /// A source of this text.
    #[must_use]
    pub fn of(path: &str, text: &str) -> Source {
        let kinds = classify(text);
        let keep = |(character, kind): (char, &Kind)| match kind {
            Kind::Code => character,
            Kind::Comment | Kind::Quoted if character == '\n' => '\n',
            Kind::Comment | Kind::Quoted => ' ',
        };
        let code: String = text.chars().zip(&kinds).map(keep).collect();
        let shipped = match is_unit_test_file(path) {
            true => String::new(),
            false => without_test_modules(&code),
        };
        Source { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The widths of its lines, quoted text not counted, with their numbers.
    pub fn columns(&self) -> impl Iterator<Item = (usize, usize)> {
        let kinds = classify(&self.text);
        let unquoted: String = self
            .text
            .chars()
            .zip(kinds)
            .filter(|(character, kind)| *kind != Kind::Quoted || *character == '\n')
            .map(|(character, _)| character)
            .collect();
        let widths: Vec<usize> = unquoted.lines().map(|line| line.chars().count()).collect();
        widths.into_iter().enumerate().map(|(index, width)| (index + 1, width))
    }

    /// Its functions outside test modules: name, first line, number of lines.
    #[must_use]
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let code = &self.shipped;
        let mut functions = Vec::new();
        for (start, _) in code.match_indices("fn ") {
            let word_before = code[..start].chars().next_back();
            let name = code[start + 3..].split(|c: char| !is_word(c)).next().unwrap_or_default();
            if word_before.is_some_and(is_word) || name.is_empty() {
                continue;
            }
            let Some(end) = body_end(&code[start..]) else { continue };
            let line = 1 + code[..start].matches('\n').count();
            let lines = 1 + code[start..start + end].matches('\n').count();
            functions.push((name.to_owned(), line, lines));
        }
        functions
    }

    /// Whether a word occurs in some code of it.
    #[must_use]
    pub fn has_word(&self, word: &str) -> bool {
        has_word(&self.code, word)
    }
}

/// Whether a word occurs with no letter, digit or underscore around it.
#[must_use]
pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every `.rs` file below a folder, build output and hidden folders left out.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let path = entry.expect("an entry is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The offset behind the brace that closes the function starting here; nothing
/// for one without a body.
fn body_end(code: &str) -> Option<usize> {
    let mut round = 0_i32;
    for (offset, character) in code.char_indices() {
        match character {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 => return None,
            '{' if round == 0 => return Some(offset + block_end(&code[offset..])),
            _ => {}
        }
    }
    None
}

/// The offset behind the brace that closes the one standing here.
fn block_end(code: &str) -> usize {
    let mut depth = 0_i32;
    for (offset, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    code.len()
}

/// Whether a file holds nothing but a crate's unit tests: `tests.rs` beside the
/// code, or in a folder `tests` there.
fn is_unit_test_file(path: &str) -> bool {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    inside.split(['/', '.']).any(|part| part == "tests")
}

/// Blanks what stands under `#[cfg(test)]` and its likes.
fn without_test_modules(code: &str) -> String {
    let mut shipped = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) =
        ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|attribute| rest.find(attribute)).min()
    {
        let open = rest[start..].find(['{', ';']).map_or(rest.len(), |at| start + at);
        let end = match rest[open..].starts_with('{') {
            true => open + block_end(&rest[open..]),
            false => open,
        };
        shipped.push_str(&rest[..start]);
        shipped.extend(rest[start..end].chars().filter(|&character| character == '\n'));
        rest = &rest[end..];
    }
    shipped.push_str(rest);
    shipped
}

/// What each character belongs to. The quotes themselves count as code.
fn classify(text: &str) -> Vec<Kind> {
    let characters: Vec<char> = text.chars().collect();
    let mut kinds = Vec::with_capacity(characters.len());
    while kinds.len() < characters.len() {
        let at = kinds.len();
        let (kind, length) = token(&characters[at..], at.checked_sub(1).map(|at| characters[at]));
        match kind {
            Kind::Quoted => {
                let quotes = usize::from(length > 1);
                kinds.extend(std::iter::repeat_n(Kind::Code, quotes));
                kinds.extend(std::iter::repeat_n(Kind::Quoted, length - 2 * quotes));
                kinds.extend(std::iter::repeat_n(Kind::Code, quotes));
            }
            Kind::Code | Kind::Comment => kinds.extend(std::iter::repeat_n(kind, length)),
        }
    }
    kinds
}

/// The kind and length of what starts here; `before` is the character in front.
fn token(rest: &[char], before: Option<char>) -> (Kind, usize) {
    let next = rest.get(1).copied();
    match rest[0] {
        '/' if next == Some('/') => (Kind::Comment, until(rest, 0, &['\n'])),
        '/' if next == Some('*') => (Kind::Comment, 1 + until(rest, 2, &['*', '/'])),
        'r' if !before.is_some_and(is_word) => raw_string(rest),
        '"' => (Kind::Quoted, string_end(rest, '"')),
        '\'' if next == Some('\\') => (Kind::Quoted, string_end(rest, '\'')),
        '\'' if rest.get(2) == Some(&'\'') => (Kind::Quoted, 3),
        _ => (Kind::Code, 1),
    }
}

/// The offset of the last character of `end`, searched from `from`.
fn until(rest: &[char], from: usize, end: &[char]) -> usize {
    rest[from..]
        .windows(end.len())
        .position(|window| window == end)
        .map_or(rest.len(), |at| from + at + end.len() - 1)
        .min(rest.len() - usize::from(end.len() > 1))
}

fn string_end(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += 1 + usize::from(rest[at] == '\\');
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[char]) -> (Kind, usize) {
    let hashes = rest[1..].iter().take_while(|&&character| character == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return (Kind::Code, 1);
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    (Kind::Quoted, (1 + until(rest, 2 + hashes, &end)).min(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_are_not_code() {
        let text =
            "let a = \"unsafe {\\\" }\"; // unsafe\n/* unsafe\n*/ let b = 'x'; r#\"unsafe\"#;";
        let source = Source::of("a.rs", text);
        assert!(!source.has_word("unsafe"), "{}", source.code);
        assert!(source.has_word("b"));
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn lifetimes_and_quoted_quotes_end_where_they_end() {
        let source =
            Source::of("a.rs", "fn a<'b>(c: &'b str) { d('\"', '\\'', b'{'); }\nfn e() {}");
        let names: Vec<_> = source.functions().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a", "e"], "{}", source.code);
    }

    #[test]
    fn functions_have_lines_and_test_modules_are_left_out() {
        let text =
            "fn a() {\n\n}\ntrait T { fn b(); }\n#[cfg(test)]\nmod tests { fn c() {} }\nfn d() {}";
        let source = Source::of("a.rs", text);
        let expected = [("a".to_owned(), 1, 3), ("d".to_owned(), 7, 1)];
        assert_eq!(source.functions(), expected);
        assert!(source.has_word("c"));
    }

    #[test]
    fn a_long_message_is_not_a_wide_line() {
        let source =
            Source::of("a.rs", &format!("a(\"{}\");\n// {}", "x".repeat(99), "y".repeat(99)));
        assert_eq!(source.columns().collect::<Vec<_>>(), [(1, 6), (2, 102)]);
    }
}
