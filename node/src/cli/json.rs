//! Decides how values look as JSON on the command line (DESIGN section 8): fields in a fixed order,
//! and bytes as text where they are UTF-8, else as base64 under a name that ends in `_b64`.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Value, json};

/// A JSON object whose fields keep the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object(String);

impl Object {
    /// An object without fields.
    pub(crate) fn new() -> Self {
        Self("{".into())
    }

    /// With one more field.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        // Names and values here are plain data, whose serialisation has no way to fail; were it to,
        // the field says null rather than nothing.
        let value = serde_json::to_string(&value).unwrap_or_else(|_| "null".into());
        let _ = write!(self.0, "{}:{value}", Value::from(name));
        self
    }

    /// With bytes: `name` if they are UTF-8, else `name_b64`.
    #[must_use]
    pub(crate) fn with_bytes(self, name: &str, bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => self.with(name, text),
            Err(_) => self.with(&format!("{name}_b64"), STANDARD.encode(bytes)),
        }
    }

    /// With all fields of `other`, in their order.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        if other.0.len() > 1 {
            if self.0.len() > 1 {
                self.0.push(',');
            }
            self.0.push_str(&other.0[1..]);
        }
        self
    }

    /// The object as one line without its newline.
    pub(crate) fn line(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// One key of a listing: a string, or `{"key_b64":…}` where it is no UTF-8.
pub(crate) fn key(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "key_b64": STANDARD.encode(bytes) }),
    }
}

/// The bytes that a base64 text stands for; `None` if it is none.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_bytes_find_their_form() {
        let line = Object::new()
            .with("id", 1)
            .with("ok", true)
            .with_bytes("value", "grün\n".as_bytes())
            .with_bytes("value", &[0xff, 0x00])
            .and(Object::new())
            .and(Object::new().with("last", ()))
            .line();
        assert_eq!(line, r#"{"id":1,"ok":true,"value":"grün\n","value_b64":"/wA=","last":null}"#);
        assert_eq!(Object::new().and(Object::new().with("a", 1)).line(), r#"{"a":1}"#);
        assert_eq!(Object::new().line(), "{}");
        assert_eq!(from_base64("/wA="), Some(vec![0xff, 0x00]));
        assert_eq!(from_base64("/wA"), None);
        assert_eq!(key(&[0xff]), json!({"key_b64":"/w=="}));
    }
}
