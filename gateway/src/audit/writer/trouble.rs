//! A disk that is full or fails: nothing is acknowledged that does not stand, and the log says what it lacks.

use std::io;
use std::sync::atomic::Ordering;

use super::super::AuditUnavailable;
use super::super::segment;
use super::{Health, Write, Writer, acknowledge};

impl Writer {
    pub(super) fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the audit log cannot be written: nothing is disclosed until it can");
        self.health = Health::Failed;
        self.status.available.store(false, Ordering::Release);
        self.status.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// After a failed write: cuts off what was never acknowledged, and states the gap.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.cut_back()?;
        self.append(&[], true)?;
        self.recovered();
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        // A next segment that was begun and failed would fork the chain.
        let next = segment::name(self.segment.saturating_add(1));
        if self.disk.list()?.contains(&next) {
            self.disk.remove(&next)?;
            self.disk.sync()?;
        }
        // A new handle: the error of a failed sync belongs to the old one.
        let mut file = self.disk.open(&segment::name(self.segment))?;
        file.truncate(self.length)?;
        file.sync()?;
        self.file = Some(file);
        Ok(())
    }

    fn recovered(&mut self) {
        tracing::warn!("the audit log can be written again");
        self.health = Health::Good;
        self.status.available.store(true, Ordering::Release);
    }

    /// The log is in its reserve: is there space again?
    pub(super) fn leave_reserve(&mut self) -> io::Result<()> {
        self.keep_reserve()?;
        self.cut_back()?;
        self.append(&[], true)?;
        self.recovered();
        Ok(())
    }

    pub(super) fn refuse_all_but_reserved(&mut self, batch: Vec<Write>, error: &io::Error) {
        let (reserved, other): (Vec<_>, Vec<_>) = batch.into_iter().partition(|write| write.reserved);
        self.refuse(other, error);
        if reserved.is_empty() {
            return;
        }
        if !is_full(error) {
            return self.refuse(reserved, error);
        }
        match self.enter_reserve().and_then(|()| self.append(&reserved, false)) {
            Ok(receipts) => acknowledge(reserved, receipts),
            Err(error) => self.refuse(reserved, &error),
        }
    }

    fn enter_reserve(&mut self) -> io::Result<()> {
        if self.health == Health::Reserve {
            return Ok(());
        }
        self.cut_back()?;
        self.start_segment(true)?;
        tracing::error!("the audit disk is full: only emergency access is served, from the reserve");
        self.health = Health::Reserve;
        Ok(())
    }

    fn refuse(&mut self, batch: Vec<Write>, error: &io::Error) {
        for write in batch {
            self.refused = self.refused.saturating_add(1);
            if let Some(ack) = write.ack {
                // Who waited may have gone.
                let _ = ack.send(Err(AuditUnavailable::Disk(error.kind())));
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
