//! Reads a text from standard input and prints its most frequent words.

use std::io::{self, Read};

fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    for (word, count) in tally::tally(&text).into_iter().take(10) {
        println!("{count:>6} {word}");
    }
    Ok(())
}
