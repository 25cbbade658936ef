//! Full subscriptions, and who has to wait for them.
//!
//! Role: tells publishers which subscriptions are full, and holds back handlers that may publish to one that is far over its
//! limit. One that is full itself is never held back, or it would never have room again.

use busway_dispatch::{Action, Input};
use busway_engine::EngineError;
use busway_types::{Pattern, Timestamp};

use super::Driver;

/// A full subscription this much over its limit (in percent) also holds back the handlers that publish to it.
const PRESSURE_PERCENT: usize = 125;

impl Driver {
    pub(super) fn note_full(&mut self) {
        for (sub, full) in self.machine.full_changed() {
            let Some(attached) = self.attached.get_mut(&sub) else { continue };
            if attached.full != full {
                attached.full = full;
                self.full = if full { self.full + 1 } else { self.full.saturating_sub(1) };
                let spec = &attached.target.spec;
                self.publisher.set_full(sub, spec.service.as_str(), &spec.patterns, full);
                let (service, state) = (spec.service.as_str(), if full { "full" } else { "has room again" });
                tracing::info!(service, state, "the queue of a service changed");
            }
        }
    }

    /// Holds back handlers that may publish to a subscription far over its limit, and lets go of the others.
    pub(super) fn press(&mut self, now: Timestamp, actions: &mut Vec<Action>) -> Result<(), EngineError> {
        let over = self.limits.backlog_bytes / 100 * PRESSURE_PERCENT;
        let mut pressing: Vec<Pattern> = Vec::new();
        for (sub, attached) in self.attached.iter().filter(|(_, attached)| attached.full) {
            if self.machine.stats(*sub).is_some_and(|stats| stats.backlog_bytes > over) {
                pressing.extend(attached.target.spec.patterns.iter().cloned());
            }
        }
        let mut changed = Vec::new();
        for (sub, attached) in &mut self.attached {
            // One that is full itself has to go on, or it would never have room again.
            let pressed = attached.target.spec.may_publish
                && !attached.full
                && attached.target.grants.iter().any(|grant| pressing.iter().any(|p| p.overlaps(grant)));
            if pressed != attached.pressed {
                attached.pressed = pressed;
                self.pressed = if pressed { self.pressed + 1 } else { self.pressed - 1 };
                changed.push((*sub, attached.is_paused()));
            }
        }
        for (sub, paused) in changed {
            self.machine.step(now, Input::Paused { sub, paused }, actions);
        }
        self.perform(actions)
    }
}
