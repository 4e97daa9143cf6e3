//! Hairpin.
