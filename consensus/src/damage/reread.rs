//! What a damaged member reads itself: entries that are sound between others that are not.
//!
//! A store tells one run, whose first slot is lost. Once that one is there again, the next may be
//! sound, and then nobody has to tell what stands in it. That is more than thrift. Of two members
//! whose runs cross, the one whose run ends later names an anchor that the other can read, and is
//! told everything up to what that one lacks. It has this itself, unless both lack it and only a
//! third can help; so it goes on, is whole in the end, and helps the other one.
//!
//! What is read counts once it is durable: a read may find what a write that is out brings back.

use super::Pending;
use crate::{
    core::Core,
    entry::Entry,
    output::Output,
    replication::follows,
    types::{Index, IndexRange},
};

impl Core {
    /// Reads the first of what was taken for lost, and what follows on it.
    pub(super) fn reread(&mut self) {
        let Some(damage) = self.damage.as_ref().filter(|damage| !damage.forgotten) else { return };
        let IndexRange { first, last } = damage.range;
        // A read that began at another slot is of no use; one that began here is on its way.
        if damage.pending.is_some() || self.loads.is_rereading(first) {
            return;
        }
        let bytes_max = self.config.knobs().append_bytes_max;
        let id = self.loads.ask_to_reread(first);
        self.outputs.push_back(Output::Load { id, range: IndexRange { first, last }, bytes_max });
    }

    /// These entries can be read, from the first slot on that was taken for lost.
    pub(crate) fn reread_sound(&mut self, first: Index, entries: &[Entry]) {
        let write = self.durability.handed_out();
        let Some(damage) = &mut self.damage else { return };
        let awaited = damage.range.first == first && damage.pending.is_none();
        let last = entries.last().map_or(Index::ZERO, |entry| entry.position.index);
        if awaited && last <= damage.range.last && follows(&self.log, first, entries) {
            damage.pending = Some(Pending { write, upto: last });
            self.repair_recorded();
        }
    }

    /// This slot is lost: if it is the first that is missed, others have to help.
    pub(crate) fn reread_lost(&mut self, first: Index) {
        let Some(damage) = self.damage.as_mut().filter(|it| it.range.first == first) else {
            return;
        };
        damage.lost = true;
        if let Some(helper) = damage.helper {
            self.ask_for_repair(helper);
        }
    }
}
