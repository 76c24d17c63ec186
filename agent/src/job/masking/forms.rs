//! How a secret looks when it was encoded, in base64 or with a plus sign for each blank. (What has
//! other escapes of URLs is decoded instead: see the module above.)
//!
//! A secret that is a part of what was encoded (`user:secret` of an `Authorization` header) looks
//! different at each of the three places it can begin in a group of three bytes, and its first and
//! last character depend on its neighbours. What depends on the secret alone is searched for.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};

/// A shorter form than this may stand somewhere by chance.
const SHORTEST: usize = 8;
/// The same for a form that is like the secret but for its blanks.
const SHORTEST_WITH_BLANKS: usize = 3;
/// Bytes that programs encode in one line: of GNU's and Python's `base64`, and of OpenSSL.
const LINES: [usize; 2] = [57, 48];

/// A text that gives a secret away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) text: String,
    /// The character before it has bits of the secret as well.
    pub(super) open_start: bool,
    /// The character behind it has bits of the secret as well.
    pub(super) open_end: bool,
}

/// The forms of a secret.
pub(super) fn of(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    if secret.contains(' ') && secret.len() >= SHORTEST_WITH_BLANKS {
        forms.push(Form {
            text: secret.replace(' ', "+"),
            open_start: false,
            open_end: false,
        });
    }
    let mut add = |text: &str, open_start, open_end| {
        for text in [text.to_owned(), text.replace('+', "-").replace('/', "_")] {
            let form = Form {
                text,
                open_start,
                open_end,
            };
            if form.text.len() >= SHORTEST && form.text != secret && !forms.contains(&form) {
                forms.push(form);
            }
        }
    };
    let bytes = secret.as_bytes();
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], bytes].concat();
        let encoded = STANDARD_NO_PAD.encode(&shifted);
        let (first_bit, end_bit) = (8 * shift, 8 * shifted.len());
        let (from, to) = (first_bit.div_ceil(6), end_bit / 6);
        if from < to {
            add(&encoded[from..to], first_bit % 6 != 0, end_bit % 6 != 0);
        }
    }
    // Alone, and with the line feed that `echo` puts behind it: what is too short as a part of
    // something is long enough with its padding.
    let line = [bytes, b"\n"].concat();
    for alone in [bytes, &line] {
        if alone.len() <= SHORTEST {
            add(&STANDARD.encode(alone), false, false);
        }
        for width in LINES {
            if alone.len() > width {
                for part in alone.chunks(width) {
                    add(&STANDARD.encode(part), false, false);
                }
            }
        }
    }
    forms
}
