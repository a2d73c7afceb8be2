//! A group as ConsumerGroupDescribe shows it: from an image, which may be that of the log.

use super::super::exchange::{ConsumerDescription, DescribedConsumer};
use super::ConsumerSettings;
use super::image::Image;
use super::target::preferred_assignor;

impl Image {
    pub(crate) fn describe(&self, settings: &ConsumerSettings) -> ConsumerDescription {
        let members = self.members().iter().map(|(id, member)| {
            let current = self.current(id);
            DescribedConsumer {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                rack_id: member.rack_id.clone(),
                epoch: current.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topics: member.topics.clone(),
                pattern: member.pattern.clone(),
                assigned: current.assigned.clone(),
                target: self.target(id),
                classic: member.classic.is_some(),
            }
        });
        ConsumerDescription {
            state: self.state(),
            epoch: self.epoch(),
            assignment_epoch: self.target_epoch(),
            assignor: preferred_assignor(self, settings.assignors()).name(),
            members: members.collect(),
        }
    }
}
