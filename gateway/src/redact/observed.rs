//! A trial run (`mode: observe`): verdicts are carried out once to know what it would come to, and again as far as they
//! hold in a trial run, for what is sent.

use super::{Account, Shown, Stage, add_withheld, rows::Rows};
use crate::audit::Withheld;
use crate::config::Mode;
use crate::decide::Verdicts;
use crate::refusal::Refusal;

/// What carrying every verdict out would have come to.
#[derive(Clone, Debug, Default)]
pub struct Enforced {
    pub refusal: Option<Refusal>,
    pub withheld: Vec<Withheld>,
    pub policies: Vec<String>,
    /// Something would have been left out of the answer.
    pub reduced: bool,
}

/// What has an account.
pub(super) trait Accounted {
    fn account(&mut self) -> &mut Account;
}

impl Accounted for Shown {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }
}

impl Accounted for Rows {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }
}

impl Stage<'_> {
    /// Is this a trial run?
    pub(super) fn observing(&self) -> bool {
        self.generation.config.gateway.mode == Mode::Observe
    }

    /// What verdicts come to; in a trial run, with what they would have come to in the account.
    pub(super) fn carried_out<T: Accounted>(
        &self,
        verdicts: &mut Verdicts,
        lacks: Option<Refusal>,
        carry_out: impl Fn(&mut Verdicts) -> Result<T, Box<(Refusal, Account)>>,
    ) -> Result<T, Box<(Refusal, Account)>> {
        let enforced = carry_out(verdicts);
        if !self.observing() {
            return enforced;
        }
        let enforced = Some(Enforced::of(enforced, lacks));
        verdicts.try_out();
        match carry_out(verdicts) {
            Ok(mut shown) => {
                shown.account().enforced = enforced;
                Ok(shown)
            }
            Err(withheld) => {
                let (refusal, account) = *withheld;
                Err(Box::new((refusal, Account { enforced, ..account })))
            }
        }
    }
}

impl Enforced {
    fn of<T: Accounted>(enforced: Result<T, Box<(Refusal, Account)>>, lacks: Option<Refusal>) -> Self {
        if let Some(refusal) = lacks {
            return Self { refusal: Some(refusal), reduced: true, ..Self::default() };
        }
        let (refusal, account) = match enforced {
            Ok(mut shown) => (None, std::mem::take(shown.account())),
            Err(withheld) => {
                let (refusal, account) = *withheld;
                (Some(refusal), account)
            }
        };
        let reduced = refusal.is_some() || account.reduced;
        Self { refusal, withheld: account.withheld, policies: account.policies, reduced }
    }

    /// What two pages that are sent as one would have come to.
    pub(super) fn and(mut self, other: Self) -> Self {
        for policy in other.policies {
            if !self.policies.contains(&policy) {
                self.policies.push(policy);
            }
        }
        add_withheld(&mut self.withheld, other.withheld);
        self.refusal = self.refusal.or(other.refusal);
        self.reduced |= other.reduced;
        self
    }
}
