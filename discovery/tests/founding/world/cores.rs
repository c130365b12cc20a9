//! The groups' cores of a world: how they start, what they say, and what is put on its way.

use super::*;

impl World {
    pub(super) fn start_core(&mut self, id: NodeId, founders: &FounderSet) {
        let node = self.nodes.get_mut(&id).unwrap();
        let (cluster, epoch) = (founders.id(&namespace()), node.epoch);
        assert!(node.disk.groups.contains_key(&cluster), "a group that is not on disk starts");
        let core = group::Core::new(node.disk.me, founders.members.clone());
        if !self.resume(id, epoch, cluster) {
            self.running(id, epoch).unwrap().cores.insert(cluster, core);
        }
        self.after(300, 300, Event::Election { node: id, epoch, cluster });
        self.after(50, 0, Event::Heartbeat { node: id, epoch, cluster });
    }

    pub(super) fn core(
        &mut self,
        id: NodeId,
        cluster: ClusterId,
        act: impl FnOnce(&mut group::Core, &mut group::Disk, &mut Vec<group::Output>),
    ) {
        let node = self.nodes.get_mut(&id).unwrap();
        let (me, record) = (node.disk.me, node.disk.record());
        let Some(core) = node.process.as_mut().and_then(|it| it.cores.get_mut(&cluster)) else {
            return;
        };
        let mut outputs = vec![];
        act(core, node.disk.groups.get_mut(&cluster).unwrap(), &mut outputs);
        for output in outputs {
            match output {
                group::Output::Send(..) if self.is_liar(id) => {}
                group::Output::Send(to, message) => {
                    assert!(record.cluster.is_none_or(|mine| mine == cluster), "acts in two");
                    self.transmit(Event::Group { from: me, to, cluster, message });
                }
                group::Output::Led(term) => self.input(id, Input::Led { cluster, term }),
                group::Output::Deposed => self.input(id, Input::Deposed { cluster }),
                group::Output::Decided(fate) => {
                    let expects = self.nodes.values().map(|node| node.expect).min().unwrap();
                    let machines = self.nodes.len() as u64;
                    self.checks.on_fate(cluster, fate.into());
                    let honest = self.liar.is_none();
                    if honest && machines + self.checks.wipes < 2 * u64::from(expects) {
                        assert!(self.living().len() <= 1, "two clusters live");
                    }
                    self.input(id, Input::Decided { cluster, fate: fate.into() });
                }
            }
        }
    }

    pub(super) fn transmit(&mut self, event: Event) {
        let faults = self.faults;
        let copies = 1 + u64::from(self.random.percent(faults.duplicate));
        for _ in 0..copies {
            if self.random.percent(faults.loss) {
                continue;
            }
            let late = if self.random.percent(faults.late) { 8000 } else { 0 };
            self.after(0, faults.delay_ms + late, event.clone());
        }
    }
}
