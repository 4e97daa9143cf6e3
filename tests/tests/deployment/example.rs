//! An example as it is written, but for where the test has it.

use std::path::{Path, PathBuf};

use hairpin_tests::bed::{Daemon, Namespace};

/// The directories that examples name, or mean where they name none.
const SOCKETS: &str = "/run/hairpin";
const STATE: &str = "/var/lib/hairpin";
/// What every example has.
const NAME: &str = "name = \"host1\"\n";

/// An example.
pub struct Example {
    text: String,
}

impl Example {
    /// Reads it.
    pub fn read(name: &str) -> Example {
        let text = std::fs::read_to_string(directory().join(name)).unwrap();
        Example { text }
    }

    /// Something else in place of what stands there.
    pub fn with(self, written: &str, here: &str) -> Example {
        assert!(self.text.contains(written), "{written} is not in the example any more");
        Example { text: self.text.replace(written, here) }
    }

    /// Whether these words stand in it, in one line.
    pub fn says(&self, words: &str) -> bool {
        self.text.lines().any(|line| line.contains(words))
    }

    /// The commands that its comments tell in which these words are.
    pub fn commands(&self, words: &str) -> Vec<String> {
        let comments = self.text.lines().filter_map(|line| line.strip_prefix("#   "));
        let commands: Vec<String> =
            comments.filter(|line| line.contains(words)).map(str::to_owned).collect();
        assert!(!commands.is_empty(), "no comment of the example has a command with {words}");
        commands
    }

    /// Starts the daemon with it in a namespace. Its sockets and state are in the daemon's
    /// directory; it is changed in nothing else.
    pub fn start(self, namespace: Namespace) -> Daemon {
        Daemon::start_whole(namespace, |place| self.at(place)).unwrap()
    }

    fn at(&self, place: &Path) -> String {
        let state = place.join("state").display().to_string();
        let place = place.display().to_string();
        let mut text = self.text.replace(SOCKETS, &place).replace(STATE, &state);
        for (key, value) in [("api", format!("unix:{place}/api.sock")), ("state-dir", state)] {
            if !text.lines().any(|line| line.starts_with(&format!("{key} = "))) {
                assert!(text.contains(NAME), "{text}");
                text = text.replacen(NAME, &format!("{NAME}{key} = \"{value}\"\n"), 1);
            }
        }
        text
    }
}

/// Where the examples are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/examples")
}
