//! Introductions under a key: sealed into a hello or its answer, and opened from them.

use meshraft_consensus::Namespace;

use super::LinkError;
use crate::{
    hello::{Answer, Hello, clear_of_answer, clear_of_hello},
    introduction::Introduction,
    key::NamespaceKey,
    seal::{Direction, IntroductionNames, IntroductionSeal},
    tag::{StreamNames, Tag},
    types::Channel,
};

/// The key that seals introductions on one stream in one namespace.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) channel: Channel,
    pub(super) stream: &'a StreamNames,
    pub(super) namespace: &'a Namespace,
    pub(super) key: &'a NamespaceKey,
}

impl Envelope<'_> {
    /// Seals the introduction of a hello that has these versions, randomness and tag.
    pub(super) fn seal_hello(
        &self,
        (oldest, newest): (u16, u16),
        random: &[u8; 32],
        tag: &Tag,
        introduction: &Introduction,
    ) -> Vec<u8> {
        let seal = self.seal(Direction::Forward, &[&self.stream.random, random]);
        seal.seal(&clear_of_hello(oldest, newest, tag), introduction.to_padded())
    }

    /// Opens the introduction of a hello.
    pub(super) fn open_hello(
        &self,
        hello: &Hello,
        tag: &Tag,
        sealed: &[u8],
    ) -> Result<Introduction, LinkError> {
        let seal = self.seal(Direction::Forward, &[&self.stream.random, &hello.random]);
        let plain = seal.open(&clear_of_hello(hello.oldest, hello.newest, tag), sealed)?;
        Ok(Introduction::from_padded(&plain)?)
    }

    /// Seals the introduction of an answer to a hello: the randomness is of the hello and of the
    /// answer.
    pub(super) fn seal_answer(
        &self,
        (version, handle): (u16, u32),
        [hello, answer]: [&[u8; 32]; 2],
        introduction: &Introduction,
    ) -> Vec<u8> {
        let seal = self.seal(Direction::Back, &[&self.stream.random, hello, answer]);
        seal.seal(&clear_of_answer(version, handle), introduction.to_padded())
    }

    /// Opens the introduction of an answer to a hello of this randomness.
    pub(super) fn open_answer(
        &self,
        answer: &Answer,
        hello_random: &[u8; 32],
        sealed: &[u8],
    ) -> Result<Introduction, LinkError> {
        let randoms = [&self.stream.random, hello_random, &answer.random];
        let plain = self
            .seal(Direction::Back, &randoms)
            .open(&clear_of_answer(answer.version, answer.handle), sealed)?;
        Ok(Introduction::from_padded(&plain)?)
    }

    fn seal(&self, direction: Direction, randoms: &[&[u8; 32]]) -> IntroductionSeal {
        let StreamNames { opener, acceptor, .. } = *self.stream;
        let (channel, namespace) = (self.channel, self.namespace);
        let names = IntroductionNames { channel, namespace, opener, acceptor, direction, randoms };
        IntroductionSeal::new(self.key, &names)
    }
}
