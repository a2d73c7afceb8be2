//! Members of the classic protocol in a consumer group: JoinGroup does what a heartbeat of the
//! others does, SyncGroup fetches what the member may read, Heartbeat says when to join again. None
//! of them is ever the leader: the assignor is on the server.

use kafka_protocol::ResponseError;

use super::super::exchange::{
    Caller, Join, JoinReply, LeaveReply, Leaving, Left, NO_MEMBER_ID, Reply, Sync, SyncReply,
    Waiter,
};
use super::admit::Admitted;
use super::convert::{by_id, by_name};
use super::image::{Classic, MemberState, Subscription};
use super::protocol::{self, CONSUMER, ConsumerSubscription};
use super::{Group, Step};

impl Step<'_> {
    pub(super) fn classic_join(&mut self, waiter: Waiter, join: Join, fresh_member_id: String) {
        let asked = join.member_id.clone();
        let reply = match self.try_join(join, fresh_member_id) {
            Ok(reply) => reply,
            Err(error) => JoinReply::refused(asked, error),
        };
        self.reply(waiter, Reply::Join(reply));
    }

    fn try_join(&mut self, join: Join, fresh: String) -> Result<JoinReply, ResponseError> {
        let is_new = join.member_id == NO_MEMBER_ID;
        let id = if is_new { fresh } else { join.member_id.clone() };
        self.group.check_room(&join.member_id).map_err(|refusal| refusal.error)?;
        if !self.group.supports(&join) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if is_new && join.instance_id.is_none() && join.member_id_required {
            // The id need not be remembered: whoever comes with one is taken in.
            return Ok(JoinReply::refused(id, ResponseError::MemberIdRequired));
        }
        let metadata = join.protocols.first().map(|offered| offered.metadata.clone());
        let said = protocol::parse_subscription(&metadata.unwrap_or_default());
        let said = said.map_err(|_| ResponseError::InconsistentGroupProtocol)?;
        let admitted = self.admit_join(&id, join.instance_id.as_deref(), is_new)?;
        let replaced = match &admitted {
            Admitted::Replaces(old) => {
                let consumer = self.group.image.members()[old].classic.is_none();
                self.replace(old, &id);
                consumer
            }
            _ => false,
        };
        Ok(self.take_in(id, join, &said, replaced))
    }

    fn admit_join(
        &self,
        id: &str,
        instance_id: Option<&str>,
        is_new: bool,
    ) -> Result<Admitted, ResponseError> {
        let Some(instance_id) = instance_id else {
            return Ok(Admitted::Existing);
        };
        let known = self.group.image.static_member(instance_id);
        match (known, is_new) {
            (None, true) => Ok(Admitted::New),
            (Some(known), true) => Ok(Admitted::Replaces(known.to_owned())),
            (_, false) => {
                let checked = self.group.check_instance(instance_id, id);
                checked.map(|()| Admitted::Existing).map_err(|refusal| refusal.error)
            }
        }
    }

    /// `replaced`: it took the place of a static member of the consumer protocol.
    fn take_in(
        &mut self,
        id: String,
        join: Join,
        said: &ConsumerSubscription,
        replaced: bool,
    ) -> JoinReply {
        self.note(format!("{id} joins with the classic protocol"));
        let owned = by_id(&said.owned, self.world.topics);
        let (session_timeout_ms, rebalance_timeout_ms) =
            (join.session_timeout_ms, join.rebalance_timeout_ms);
        let protocol = join.protocols.first().map(|offered| offered.name.clone());
        let subscription = self.group.joined(&id, join, said);
        let changed = self.put_member(&id, subscription);
        self.bump_epoch_if(changed);
        let epoch = if replaced && self.may_downgrade() {
            self.restart_session(&id, session_timeout_ms);
            let generation = self.group.image.epoch();
            // Somebody may still hold what the target gives to another: only a rebalance of the
            // classic protocol hands that over. (Kafka rebalances only for other topics.)
            let settled = !changed && self.group.is_settled_but_for(&id);
            let why = "a static member came back with the classic protocol";
            self.downgrade(|_| true, (!settled).then_some(why));
            generation
        } else {
            self.update_target();
            let current = self.reconcile(&id, Some(&owned));
            self.restart_session(&id, session_timeout_ms);
            self.expect_sync(&id, rebalance_timeout_ms);
            current.epoch
        };
        JoinReply {
            error: None,
            generation: epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            leader: String::new(),
            member_id: id,
            skip_assignment: false,
            members: Vec::new(),
        }
    }

    fn may_downgrade(&self) -> bool {
        self.group.settings.migration.downgrade
            && self.group.image.members().values().all(|member| member.classic.is_some())
    }

    pub(super) fn classic_sync(&mut self, waiter: Waiter, sync: &Sync) {
        let reply = match self.try_sync(sync) {
            Ok(reply) => reply,
            Err(error) => SyncReply::refused(error),
        };
        self.reply(waiter, Reply::Sync(reply));
    }

    fn try_sync(&mut self, sync: &Sync) -> Result<SyncReply, ResponseError> {
        let classic = self.check_classic(&sync.caller)?;
        let offered = classic.protocols.first().cloned();
        let (name, metadata) =
            offered.map(|offered| (offered.name, offered.metadata)).unwrap_or_default();
        let other_type = sync.protocol_type.as_deref().is_some_and(|given| given != CONSUMER);
        let other_name = sync.protocol.as_ref().is_some_and(|given| *given != name);
        if other_type || other_name {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let id = &sync.caller.member_id;
        let current = self.group.image.current(id);
        // A member that gives partitions back has joined already, and joins again when it is done.
        if self.group.image.epoch() > current.epoch
            && current.state != MemberState::UnrevokedPartitions
        {
            self.expect_join(id, self.group.image.members()[id].rebalance_timeout_ms);
            return Err(ResponseError::RebalanceInProgress);
        }
        let version = protocol::parse_subscription(&metadata).map_or(0, |said| said.version);
        let assigned = by_name(&current.assigned, self.world.topics);
        self.synced(id);
        self.restart_session(id, classic.session_timeout_ms);
        Ok(SyncReply {
            error: None,
            protocol_type: sync.protocol_type.clone(),
            protocol: sync.protocol.clone(),
            assignment: protocol::assignment(&assigned, version),
        })
    }

    pub(super) fn classic_heartbeat(&mut self, waiter: Waiter, caller: &Caller) {
        let result = self.check_classic(caller).and_then(|classic| {
            let id = &caller.member_id;
            self.restart_session(id, classic.session_timeout_ms);
            if !self.group.has_to_join_again(id) {
                return Ok(());
            }
            self.expect_join(id, self.group.image.members()[id].rebalance_timeout_ms);
            Err(ResponseError::RebalanceInProgress)
        });
        self.reply(waiter, Reply::Heartbeat(result));
    }

    fn check_classic(&self, caller: &Caller) -> Result<Classic, ResponseError> {
        let id = &caller.member_id;
        let checked = self.group.check_member(id, caller.instance_id.as_deref(), self.world);
        checked.map_err(|refusal| refusal.error)?;
        let classic = self.group.image.members().get(id).and_then(|it| it.classic.clone());
        let classic = classic.ok_or(ResponseError::UnknownMemberId)?;
        match self.group.image.current(id).epoch == caller.generation {
            true => Ok(classic),
            false => Err(ResponseError::IllegalGeneration),
        }
    }

    pub(super) fn classic_leave(&mut self, waiter: Waiter, leaving: Vec<Leaving>) {
        let mut left = Vec::with_capacity(leaving.len());
        let mut gone: Vec<String> = Vec::new();
        for one in leaving {
            let found = self.group.find_leaving(&one, &gone);
            let error = found.as_ref().err().copied();
            if let Ok(id) = found {
                let reason = one.reason.as_deref().unwrap_or("no reason given");
                self.note(format!("{id} leaves: {reason}"));
                gone.push(id);
            }
            left.push(Left { member_id: one.member_id, instance_id: one.instance_id, error });
        }
        if !gone.is_empty() {
            self.take_out(&gone);
        }
        let reply: LeaveReply = Ok(left);
        self.reply(waiter, Reply::Leave(reply));
    }
}

impl Group {
    /// Is one of the protocols known to all members that speak the classic protocol?
    fn supports(&self, join: &Join) -> bool {
        let others = self.image.members().values().filter_map(|member| member.classic.as_ref());
        let others: Vec<&Classic> = others.collect();
        let knows = |other: &Classic, name: &str| other.protocols.iter().any(|it| it.name == name);
        join.protocol_type == CONSUMER
            && join
                .protocols
                .iter()
                .any(|offered| others.iter().all(|other| knows(other, &offered.name)))
    }

    fn joined(&self, id: &str, join: Join, said: &ConsumerSubscription) -> Subscription {
        let before = self.image.members().get(id).cloned().unwrap_or_default();
        Subscription {
            instance_id: join.instance_id.or_else(|| before.instance_id.clone()),
            rack_id: said.rack_id.clone().or_else(|| before.rack_id.clone()),
            client_id: join.client_id,
            client_host: join.client_host,
            topics: said.topics.clone(),
            pattern: None,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            assignor: before.assignor.clone(),
            classic: Some(Classic {
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols,
            }),
        }
    }

    /// It missed an epoch, has to give partitions back, or can have all that it waited for.
    fn has_to_join_again(&self, id: &str) -> bool {
        let current = self.image.current(id);
        current.epoch < self.image.epoch()
            || match current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(id),
            }
    }

    fn is_settled_but_for(&self, id: &str) -> bool {
        let epoch = self.image.target_epoch();
        let mut others = self.image.members().keys().filter(|other| *other != id);
        self.image.epoch() == epoch && others.all(|other| self.image.current(other).is_at(epoch))
    }

    fn waits_for_others(&self, id: &str) -> bool {
        let assigned = self.image.current(id);
        self.image.target(id).iter().any(|(topic, wanted)| {
            let has = assigned.assigned.get(topic);
            let missing = wanted.iter().filter(|it| has.is_none_or(|has| !has.contains(it)));
            missing.into_iter().any(|it| self.image.owner(*topic, *it).is_some())
        })
    }

    /// An administrator takes out members of both protocols by this.
    fn find_leaving(&self, leaving: &Leaving, gone: &[String]) -> Result<String, ResponseError> {
        let unknown = ResponseError::UnknownMemberId;
        let id = match &leaving.instance_id {
            None => leaving.member_id.clone(),
            Some(instance_id) => {
                let known = self.image.static_member(instance_id).ok_or(unknown)?;
                // An administrator knows the instance only.
                if leaving.member_id != NO_MEMBER_ID && leaving.member_id != known {
                    return Err(ResponseError::FencedInstanceId);
                }
                known.to_owned()
            }
        };
        match self.image.members().contains_key(&id) && !gone.contains(&id) {
            true => Ok(id),
            false => Err(unknown),
        }
    }
}
