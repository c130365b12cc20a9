//! Lists of the wire whose length is checked before anything is allocated for them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads a list of at most `MAX` elements.
pub(crate) fn list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(List::<MAX, T>(PhantomData))
}

struct List<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for List<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        // A format that tells no length grows the list as it goes.
        let told = elements.size_hint().unwrap_or(0);
        if told > MAX {
            return Err(A::Error::invalid_length(told, &self));
        }
        let mut list = Vec::with_capacity(told);
        while let Some(element) = elements.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Few(#[serde(deserialize_with = "list::<3, _, _>")] Vec<u8>);

    #[test]
    fn a_list_is_as_long_as_its_bound_and_no_longer() {
        assert_eq!(postcard::from_bytes(&[3, 1, 2, 3]), Ok(Few(vec![1, 2, 3])));
        assert!(postcard::from_bytes::<Few>(&[4, 1, 2, 3, 4]).is_err());
        assert!(postcard::from_bytes::<Few>(&[0xff, 0xff, 0xff, 0x7f, 1]).is_err());
    }
}
