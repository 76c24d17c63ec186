//! How single Java values look in GoCD's JSON, for use with `#[serde(with = "...")]`.

/// `java.io.File`: `{"path":"pipelines/web"}`. Both kinds of slash are read as the forward one.
pub(crate) mod file {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Read {
        path: String,
    }

    #[derive(Serialize)]
    struct Write<'a> {
        path: &'a Path,
    }

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Write { path }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let file = Read::deserialize(deserializer)?;
        Ok(PathBuf::from(file.path.replace('\\', "/")))
    }
}

/// `java.util.Date` as `ISO_INSTANT`: a fraction of 0, 3, 6 or 9 digits, as few as will do.
/// A date that cannot be read is taken as absent: no work is worth losing for it.
pub(crate) mod date {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        date: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Some(date) = date else {
            return serializer.serialize_none();
        };
        let digits = match date.subsec_nanosecond() {
            0 => 0,
            nanos if nanos % 1_000_000 == 0 => 3,
            nanos if nanos % 1_000 == 0 => 6,
            _ => 9,
        };
        serializer.collect_str(&format_args!("{date:.digits$}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.and_then(|text| text.parse().ok()))
    }
}
