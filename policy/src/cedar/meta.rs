//! What a policy says about itself, in its annotations.

use cedar_policy as cedar;

use crate::reason::Reason;

/// The annotations of one policy, checked at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyMeta {
    /// `@id`, unique in the set.
    pub id: String,
    /// `@cites`: the source it rests on.
    pub cites: String,
    /// `@says`: the policy in a sentence, for people.
    pub says: String,
    /// The file it stands in.
    pub file: String,
    /// A `permit`, or else a `forbid`.
    pub permits: bool,
    /// A forbid that keeps substance use records from being seen, or from being told of: it names one of their labels,
    /// or rests on 42 CFR 2.13(c) (presence is not told of) or 2.31(b) (counseling notes). It holds in every mode.
    pub protects_part2: bool,
    pub mode: Mode,
    /// `@reason`, of a forbid: the code under which its refusals are known.
    pub reason: Option<Reason>,
    /// `@basis`, of a permit for records: the lawful basis in a word.
    pub basis: Option<String>,
    /// `@obliges`: what a disclosure under this permit entails.
    pub obligations: Obligations,
    /// The template that it is an instance of.
    pub template: Option<String>,
    /// Its place in the set.
    pub(crate) position: usize,
}

impl PolicyMeta {
    /// Reads what a policy or a template says about itself.
    pub(super) fn read<'a>(
        file: &str,
        effect: cedar::Effect,
        annotations: impl Iterator<Item = (&'a str, &'a str)>,
        position: usize,
    ) -> Result<Self, String> {
        const KNOWN: [&str; 7] = ["id", "cites", "says", "mode", "reason", "basis", "obliges"];
        let annotations: Vec<(&str, &str)> = annotations.collect();
        let raw = |key: &str| annotations.iter().find(|(known, _)| *known == key).map(|(_, text)| *text);
        let text = |key: &str| raw(key).filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let id = text("id").ok_or("a policy needs @id: explanations and records name it")?;
        let cites = text("cites").ok_or("a policy needs @cites: the source it rests on")?;
        let says = text("says").ok_or("a policy needs @says: itself in one sentence, for people")?;
        if let Some((key, _)) = annotations.iter().find(|(key, _)| !KNOWN.contains(key)) {
            return Err(format!("@{key} is not known; known are {}", KNOWN.join(", ")));
        }
        let permits = effect == cedar::Effect::Permit;
        let mode = match raw("mode") {
            None | Some("enforce") => Mode::Enforce,
            Some("shadow") => Mode::Shadow,
            Some(other) => return Err(format!("@mode is `enforce` or `shadow`, not `{other}`")),
        };
        if mode == Mode::Shadow && permits {
            return Err("only a forbid can run in shadow mode: a shadowed permit would report nothing".to_owned());
        }
        let reason = match raw("reason") {
            None => None,
            Some(code) => Some(Reason::from_code(code).ok_or_else(|| format!("@reason `{code}` is no reason code"))?),
        };
        let obligations = Obligations::parse(raw("obliges").unwrap_or_default())?;
        let (file, basis) = (file.to_owned(), text("basis"));
        Ok(Self {
            id,
            cites,
            says,
            file,
            permits,
            protects_part2: false,
            mode,
            reason,
            basis,
            obligations,
            template: None,
            position,
        })
    }
}

/// Does a policy decide, or is it only watched?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// `@mode("shadow")`: evaluated and reported, never deciding.
    Shadow,
}

/// What must accompany or follow a disclosure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Obligations {
    /// The notice of 42 CFR 2.32 goes with the answer.
    pub part2_notice: bool,
    /// The program must be told who saw what, when, and why (42 CFR 2.51(c)).
    pub emergency_record: bool,
}

impl Obligations {
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            part2_notice: self.part2_notice || other.part2_notice,
            emergency_record: self.emergency_record || other.emergency_record,
        }
    }

    /// Reads `@obliges`: codes separated by spaces.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut obligations = Self::default();
        for code in text.split_whitespace() {
            match code {
                "part2-notice" => obligations.part2_notice = true,
                "emergency-record" => obligations.emergency_record = true,
                other => return Err(format!("@obliges knows `part2-notice` and `emergency-record`, not `{other}`")),
            }
        }
        Ok(obligations)
    }
}
