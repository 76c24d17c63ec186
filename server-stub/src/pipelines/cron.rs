//! Quartz cron expressions, which `timer` is written in.
//!
//! Six or seven fields: second, minute, hour, day of the month, month, day of the week and, if
//! wanted, year. Sunday is day 1 of the week. Exactly one of the two day fields is `?`. Ranges may
//! go past the end (`FRI-MON`).

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

const FIRST_YEAR: i16 = 1970;
const LAST_YEAR: i16 = 2199;

/// No change of a clock leaves out more.
const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(3);

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// When a timer goes off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    /// Years since 1970.
    years: Vec<bool>,
}

/// Which days of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Vec<MonthDay>),
    OfWeek(Vec<WeekDay>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum MonthDay {
    Any(Set),
    /// So many days before the last one; on the nearest working day before or after it, if asked.
    Last {
        before: i8,
        working: bool,
    },
    /// The working day of the month that is nearest to this day.
    Working(i8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WeekDay {
    Any(Set),
    /// The last such weekday of the month.
    Last(u8),
    /// The n-th such weekday of the month.
    Nth(u8, i8),
}

/// Numbers up to 63, each a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set(u64);

/// What a field may hold.
struct Field {
    what: &'static str,
    least: u16,
    most: u16,
    names: &'static [&'static str],
}

const fn field(what: &'static str, least: u16, most: u16) -> Field {
    Field {
        what,
        least,
        most,
        names: &[],
    }
}

const SECOND: Field = field("second", 0, 59);
const MINUTE: Field = field("minute", 0, 59);
const HOUR: Field = field("hour", 0, 23);
const DAY: Field = field("day of the month", 1, 31);
const MONTH: Field = Field {
    names: &MONTHS,
    ..field("month", 1, 12)
};
const WEEKDAY: Field = Field {
    names: &WEEKDAYS,
    ..field("day of the week", 1, 7)
};
const YEAR: Field = field("year", FIRST_YEAR as u16, LAST_YEAR as u16);

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// Which field is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let fields: Vec<&str> = upper.split_whitespace().collect();
        let (second, minute, hour, day, month, weekday, year) = match fields[..] {
            [a, b, c, d, e, f] => (a, b, c, d, e, f, "*"),
            [a, b, c, d, e, f, g] => (a, b, c, d, e, f, g),
            _ => {
                return Err(format!(
                    "`{text}` has {} fields; a Quartz cron expression has six or seven: second \
                     minute hour day month weekday [year]",
                    fields.len()
                ));
            }
        };
        let days = match (day, weekday) {
            ("?", "?") => return Err(format!("`{text}`: only one of the day fields is `?`")),
            (day, "?") => Days::OfMonth(list(day, month_day)?),
            ("?", weekday) => Days::OfWeek(list(weekday, week_day)?),
            _ => {
                return Err(format!(
                    "`{text}`: one of day of the month and day of the week must be `?`"
                ));
            }
        };
        let mut years = vec![false; usize::from(YEAR.most - YEAR.least) + 1];
        for item in year.split(',') {
            for year in YEAR.numbers(item)? {
                if let Some(here) = years.get_mut(usize::from(year - YEAR.least)) {
                    *here = true;
                }
            }
        }
        Ok(Self {
            seconds: SECOND.set(second)?,
            minutes: MINUTE.set(minute)?,
            hours: HOUR.set(hour)?,
            days,
            months: MONTH.set(month)?,
            years,
        })
    }

    /// The next time after this one; none when all have passed. A time that a clock change leaves
    /// out is moved to just after it, one that comes twice counts once.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut civil = after.to_zoned(zone.clone()).datetime();
        // A time that a change has just left out is still to come, although the clock on the wall is
        // past it.
        let before = after - LONGEST_GAP;
        if zone.to_offset(before) < zone.to_offset(after) {
            civil = before.to_zoned(zone.clone()).datetime();
        }
        loop {
            civil = self.next_civil(civil)?;
            let found = civil.to_zoned(zone.clone()).ok()?.timestamp();
            if found > after {
                return Some(found);
            }
        }
    }

    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        let mut date = after.date();
        let mut time = self
            .day_matches(date)
            .then(|| self.time(Some(after.time())));
        loop {
            if let Some(Some(time)) = time {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            if date.year() > LAST_YEAR {
                return None;
            }
            time = self.day_matches(date).then(|| self.time(None));
        }
    }

    /// The first time of a day, after another one if that is given.
    fn time(&self, after: Option<Time>) -> Option<Time> {
        let (hour, minute, second) = match after {
            // The next second, which may be no time of the day any more.
            Some(time) => (time.hour(), time.minute(), time.second() + 1),
            None => (0, 0, 0),
        };
        if self.hours.has(hour) {
            if self.minutes.has(minute)
                && let Some(second) = self.seconds.from(second)
            {
                return Time::new(hour, minute, second, 0).ok();
            }
            if let Some(minute) = self.minutes.from(minute + 1) {
                return Time::new(hour, minute, self.seconds.from(0)?, 0).ok();
            }
        }
        let hour = self.hours.from(hour + 1)?;
        Time::new(hour, self.minutes.from(0)?, self.seconds.from(0)?, 0).ok()
    }

    fn day_matches(&self, date: Date) -> bool {
        let year = usize::try_from(date.year() - FIRST_YEAR).unwrap_or(usize::MAX);
        if !self.years.get(year).copied().unwrap_or_default() || !self.months.has(date.month()) {
            return false;
        }
        match &self.days {
            Days::OfMonth(days) => days.iter().any(|day| day.matches(date)),
            Days::OfWeek(days) => days.iter().any(|day| day.matches(date)),
        }
    }
}

impl MonthDay {
    fn matches(&self, date: Date) -> bool {
        let last = date.days_in_month();
        match self {
            Self::Any(days) => days.has(date.day()),
            Self::Last { before, working } => {
                let day = last - before;
                day >= 1
                    && date.day()
                        == if *working {
                            working_day(date, day)
                        } else {
                            day
                        }
            }
            Self::Working(day) => date.day() == working_day(date, (*day).min(last)),
        }
    }
}

/// The working day that is nearest to a day of the month, in the same month.
fn working_day(month: Date, day: i8) -> i8 {
    let Ok(date) = Date::new(month.year(), month.month(), day) else {
        return day;
    };
    match date.weekday() {
        Weekday::Saturday if day == 1 => 3,
        Weekday::Saturday => day - 1,
        Weekday::Sunday if day == date.days_in_month() => day - 2,
        Weekday::Sunday => day + 1,
        _ => day,
    }
}

impl WeekDay {
    fn matches(&self, date: Date) -> bool {
        let today = date.weekday().to_sunday_one_offset();
        match self {
            Self::Any(days) => days.has(today),
            Self::Last(day) => {
                i8::try_from(*day) == Ok(today) && date.day() + 7 > date.days_in_month()
            }
            Self::Nth(day, nth) => {
                i8::try_from(*day) == Ok(today) && (date.day() - 1) / 7 + 1 == *nth
            }
        }
    }
}

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|bit| bit < 64 && self.0 >> bit & 1 == 1)
    }

    /// The least number that is not below this one.
    fn from(self, number: i8) -> Option<i8> {
        (number.max(0)..64).find(|number| self.has(*number))
    }
}

/// The items of a field that has its own forms; all plain ones make one set.
fn list<T>(text: &str, item: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(item).collect()
}

fn month_day(item: &str) -> Result<MonthDay, String> {
    let last = |rest: &str| match rest {
        "" => Some(0),
        rest => rest
            .strip_prefix('-')?
            .parse()
            .ok()
            .filter(|days| (0..=30).contains(days)),
    };
    if item == "LW" {
        return Ok(MonthDay::Last {
            before: 0,
            working: true,
        });
    }
    if let Some(rest) = item.strip_prefix('L') {
        let (rest, working) = match rest.strip_suffix('W') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        return match last(rest) {
            Some(before) => Ok(MonthDay::Last { before, working }),
            None => Err(DAY.malformed(item)),
        };
    }
    if let Some(day) = item.strip_suffix('W') {
        let day = DAY.number(day)?;
        return Ok(MonthDay::Working(i8::try_from(day).unwrap_or(i8::MAX)));
    }
    DAY.set(item).map(MonthDay::Any)
}

fn week_day(item: &str) -> Result<WeekDay, String> {
    let narrow = |day: u16| u8::try_from(day).unwrap_or(u8::MAX);
    if item == "L" {
        return Ok(WeekDay::Any(WEEKDAY.set("SAT")?));
    }
    if let Some(day) = item.strip_suffix('L') {
        return Ok(WeekDay::Last(narrow(WEEKDAY.number(day)?)));
    }
    if let Some((day, nth)) = item.split_once('#') {
        let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth));
        let nth = nth.ok_or_else(|| WEEKDAY.malformed(item))?;
        return Ok(WeekDay::Nth(narrow(WEEKDAY.number(day)?), nth));
    }
    WEEKDAY.set(item).map(WeekDay::Any)
}

impl Field {
    fn set(&self, text: &str) -> Result<Set, String> {
        let mut set = Set::default();
        for item in text.split(',') {
            for number in self.numbers(item)? {
                set.0 |= 1 << (number % 64);
            }
        }
        Ok(set)
    }

    /// `*`, `a`, `a-b`, each with `/step`; a step makes `a` mean "from a on".
    fn numbers(&self, item: &str) -> Result<Vec<u16>, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                let size = self.most - self.least + 1;
                let step = step.parse().ok().filter(|step| (1..=size).contains(step));
                (range, Some(step.ok_or_else(|| self.malformed(item))?))
            }
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range.is_empty() && step.is_some() => (self.least, self.most),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None => {
                let first = self.number(range)?;
                (first, if step.is_some() { self.most } else { first })
            }
        };
        let step = usize::from(step.unwrap_or(1));
        Ok(if first <= last {
            (first..=last).step_by(step).collect()
        } else {
            let past_the_end = (first..=self.most).chain(self.least..=last);
            past_the_end.step_by(step).collect()
        })
    }

    fn number(&self, text: &str) -> Result<u16, String> {
        if let Some(index) = self.names.iter().position(|name| *name == text) {
            return Ok(self.least + u16::try_from(index).unwrap_or_default());
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number
            .filter(|number| (self.least..=self.most).contains(number))
            .ok_or_else(|| self.malformed(text))
    }

    fn malformed(&self, item: &str) -> String {
        let Self {
            what, least, most, ..
        } = self;
        format!("`{item}` is no {what} of a Quartz cron expression ({least} to {most})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_times_are_found() {
        // 2026-11-21 is a Saturday.
        let table = [
            ("0 15 2 ? * MON-FRI", "2026-11-23T02:15:00Z"),
            ("0 0 12 * * ?", "2026-11-22T12:00:00Z"),
            ("* * * * * ?", "2026-11-21T16:00:01Z"),
            ("0 0/15 * * * ?", "2026-11-21T16:15:00Z"),
            ("0 0 16 * * ?", "2026-11-22T16:00:00Z"),
            ("30 0 16 * * ?", "2026-11-21T16:00:30Z"),
            ("0 0 0 L * ?", "2026-11-30T00:00:00Z"),
            ("0 0 0 L-3 * ?", "2026-11-27T00:00:00Z"),
            ("0 0 0 LW JAN ?", "2027-01-29T00:00:00Z"),
            ("0 0 0 1W * ?", "2026-12-01T00:00:00Z"),
            ("0 0 0 1W MAY ?", "2027-05-03T00:00:00Z"),
            ("0 0 0 22W * ?", "2026-11-23T00:00:00Z"),
            ("0 0 0 ? * 6L", "2026-11-27T00:00:00Z"),
            ("0 0 0 ? * 2#1", "2026-12-07T00:00:00Z"),
            ("0 0 0 ? * FRI#5", "2027-01-29T00:00:00Z"),
            ("0 0 0 ? * L", "2026-11-28T00:00:00Z"),
            ("0 0 0 29 FEB ?", "2028-02-29T00:00:00Z"),
            ("0 0 0 ? * FRI-SUN", "2026-11-22T00:00:00Z"),
            ("0 0 22-2 * * ?", "2026-11-21T22:00:00Z"),
            ("0 0 0 1,15 * ?", "2026-12-01T00:00:00Z"),
            ("59 59 23 31 12 ? 2030-2040/5", "2030-12-31T23:59:59Z"),
        ];
        let now: Timestamp = "2026-11-21T16:00:00Z".parse().unwrap();
        for (text, expected) in table {
            let schedule = Schedule::parse(text).unwrap();
            let next = schedule.next(now, &TimeZone::UTC).unwrap();
            assert_eq!(next.to_string(), expected, "{text}");
        }
        let past = Schedule::parse("0 0 0 1 1 ? 2001").unwrap();
        assert_eq!(past.next(now, &TimeZone::UTC), None);
        let never = Schedule::parse("0 0 0 31 FEB ?").unwrap();
        assert_eq!(never.next(now, &TimeZone::UTC), None);
    }

    #[test]
    fn clock_changes_neither_lose_nor_double_a_day() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let nightly = Schedule::parse("0 30 2 * * ?").unwrap();
        let mut now: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        for expected in ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"] {
            now = nightly.next(now, &zone).unwrap();
            assert_eq!(now.to_string(), expected);
        }
        let mut now: Timestamp = "2026-10-24T12:00:00Z".parse().unwrap();
        for expected in ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"] {
            now = nightly.next(now, &zone).unwrap();
            assert_eq!(now.to_string(), expected);
        }
    }

    #[test]
    fn what_quartz_refuses_is_refused() {
        for text in [
            "",
            "x",
            "0 0 12 * *",
            "0 0 12 * * * *",
            "0 0 12 ? * ?",
            "0 0 12 * * MON",
            "60 0 12 * * ?",
            "0 0 24 * * ?",
            "0 0 0 32 * ?",
            "0 0 0 0 * ?",
            "0 0 0 1 13 ?",
            "0 0 0 ? * 8",
            "0 0 0 ? * 2#6",
            "0 0 0 ? * #",
            "0 0 0 L-31 * ?",
            "0 0 0 W * ?",
            "0 0 0 1 * ? 1969",
            "0 0/0 0 1 * ?",
            "0 */61 0 1 * ?",
            "0 1- 0 1 * ?",
            "0 -1 0 1 * ?",
            "0 +1 0 1 * ?",
            "0 , 0 1 * ?",
            "0 0 0 1 JANUARY ?",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
