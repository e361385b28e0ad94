//! Purpose of use (v3-ActReason, value set PurposeOfUse), with its hierarchy.

/// The purposes this gateway rules on. Unknown codes are no purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PurposeOfUse {
    /// Treatment.
    Treat,
    /// Emergency treatment, under TREAT.
    Etreat,
    /// Break the glass, under ETREAT.
    Btg,
    /// Payment.
    Hpaymt,
    /// Health care operations.
    Hoperat,
    /// Legal proceedings, under HOPERAT.
    Hlegal,
    /// Research.
    Hresch,
    /// Patient requested.
    Patrqt,
    /// Family requested, under PATRQT.
    Famrqt,
    /// Public health.
    Publhlth,
    /// Marketing.
    Hmarkt,
    /// Care management, under HOPERAT.
    Caremgt,
    /// Coordination of care, under TREAT.
    Coc,
    /// Audit and evaluation of a program (42 CFR 2.53), under HOPERAT: HQUALIMP.
    Hqualimp,
}

impl PurposeOfUse {
    pub const ALL: &'static [Self] = &[
        Self::Treat,
        Self::Etreat,
        Self::Btg,
        Self::Hpaymt,
        Self::Hoperat,
        Self::Hlegal,
        Self::Hresch,
        Self::Patrqt,
        Self::Famrqt,
        Self::Publhlth,
        Self::Hmarkt,
        Self::Caremgt,
        Self::Coc,
        Self::Hqualimp,
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Self::Treat => "TREAT",
            Self::Etreat => "ETREAT",
            Self::Btg => "BTG",
            Self::Hpaymt => "HPAYMT",
            Self::Hoperat => "HOPERAT",
            Self::Hlegal => "HLEGAL",
            Self::Hresch => "HRESCH",
            Self::Patrqt => "PATRQT",
            Self::Famrqt => "FAMRQT",
            Self::Publhlth => "PUBHLTH",
            Self::Hmarkt => "HMARKT",
            Self::Caremgt => "CAREMGT",
            Self::Coc => "COC",
            Self::Hqualimp => "HQUALIMP",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|purpose| purpose.code() == code)
    }

    /// The purpose directly above, if any.
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Etreat | Self::Coc => Some(Self::Treat),
            Self::Btg => Some(Self::Etreat),
            Self::Hlegal | Self::Caremgt | Self::Hqualimp => Some(Self::Hoperat),
            Self::Famrqt => Some(Self::Patrqt),
            Self::Treat
            | Self::Hpaymt
            | Self::Hoperat
            | Self::Hresch
            | Self::Patrqt
            | Self::Publhlth
            | Self::Hmarkt => None,
        }
    }

    /// Is this purpose `other`, or a kind of it?
    pub fn is_a(self, other: Self) -> bool {
        self == other || self.parent().is_some_and(|parent| parent.is_a(other))
    }
}
