//! Decides how the demo tells what it saw: an aligned table for people, JSON lines for programs.
//!
//! Every step is one check; the demo as a whole passes only if all of them do.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde_json::Value;

use crate::cli::json::Object;

const NAME_WIDTH: usize = 14;
const TIME_WIDTH: usize = 9;

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Its name, the same in every run.
    pub(super) name: &'static str,
    /// Whether what it checked holds.
    pub(super) ok: bool,
    /// How long what it is about took, where that means something.
    pub(super) elapsed: Option<Duration>,
    /// What was seen, in a sentence.
    pub(super) detail: String,
    /// What was seen, as values.
    pub(super) facts: Vec<(&'static str, Value)>,
}

/// Where steps are told as they end.
pub(super) struct Report<W> {
    output: W,
    style: Style,
    passed: usize,
    failed: usize,
}

/// How a report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A table without colours.
    Plain,
    /// A table with colours.
    Colour,
    /// One JSON object a line.
    Json,
}

impl Style {
    /// Colours only on a terminal whose user did not switch them off.
    pub(super) fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Self::Colour
        } else {
            Self::Plain
        }
    }
}

impl Step {
    /// A step that passed.
    pub(super) fn passed(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, elapsed: None, detail: detail.into(), facts: Vec::new() }
    }

    /// A step that failed.
    pub(super) fn failed(name: &'static str, detail: impl Into<String>) -> Self {
        Self { ok: false, ..Self::passed(name, detail) }
    }

    /// With the time that it took.
    pub(super) fn took(self, elapsed: Duration) -> Self {
        Self { elapsed: Some(elapsed), ..self }
    }

    /// With one more value.
    pub(super) fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, value.into()));
        self
    }
}

impl<W: Write> Report<W> {
    /// A report that nothing was told yet.
    pub(super) const fn new(output: W, style: Style) -> Self {
        Self { output, style, passed: 0, failed: 0 }
    }

    /// Says what comes.
    ///
    /// # Errors
    /// When the output is closed.
    pub(super) fn begin(&mut self, namespace: &str) -> io::Result<()> {
        if self.style == Style::Json {
            return Ok(());
        }
        let about = "three real nodes on this machine, on the loopback interface and real disks";
        writeln!(self.output, "{} {about}", self.bold("Meshraft"))?;
        writeln!(self.output, "{}\n", self.dim(&format!("namespace {namespace}")))?;
        self.output.flush()
    }

    /// Tells one step.
    ///
    /// # Errors
    /// When the output is closed.
    pub(super) fn tell(&mut self, step: &Step) -> io::Result<()> {
        *(if step.ok { &mut self.passed } else { &mut self.failed }) += 1;
        if self.style == Style::Json {
            let mut object = Object::new().with("step", step.name).with("ok", step.ok);
            if let Some(elapsed) = step.elapsed {
                object = object.with("ms", milliseconds(elapsed));
            }
            for (name, value) in &step.facts {
                object = object.with(name, value);
            }
            writeln!(self.output, "{}", object.with("message", &step.detail).line())?;
        } else {
            let mark = if step.ok { self.green("✓") } else { self.red("✗") };
            let time = step.elapsed.map(readable).unwrap_or_default();
            let name = step.name;
            writeln!(
                self.output,
                "  {mark} {name:NAME_WIDTH$}{time:>TIME_WIDTH$}   {}",
                step.detail
            )?;
        }
        self.output.flush()
    }

    /// Says how it all ended.
    ///
    /// # Errors
    /// When the output is closed.
    pub(super) fn end(&mut self, elapsed: Duration) -> io::Result<()> {
        let (passed, failed, ok) = (self.passed, self.failed, self.is_ok());
        if self.style == Style::Json {
            let object = Object::new().with("step", "summary").with("ok", ok);
            let object = object.with("ms", milliseconds(elapsed));
            writeln!(
                self.output,
                "{}",
                object.with("passed", passed).with("failed", failed).line()
            )?;
            return self.output.flush();
        }
        let time = readable(elapsed);
        let (passed, time) = (passed.to_string(), time.trim());
        let verdict = if ok {
            self.green(&format!("All {passed} checks passed"))
        } else {
            self.red(&format!("{failed} failed, {passed} passed"))
        };
        writeln!(self.output, "\n  {verdict} in {time}. Processes and folders are cleaned up.")?;
        if ok {
            let next = self.dim("Next: meshraft serve --help");
            writeln!(self.output, "  {next}")?;
        }
        self.output.flush()
    }

    /// Whether steps were told and all of them passed.
    pub(super) const fn is_ok(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.style {
            Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Style::Plain | Style::Json => text.to_owned(),
        }
    }
}

/// Milliseconds to a tenth.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn readable(duration: Duration) -> String {
    if duration < Duration::from_millis(10) {
        format!("{:.1} ms", milliseconds(duration))
    } else if duration < Duration::from_secs(10) {
        format!("{:.0} ms", milliseconds(duration))
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(style: Style, steps: &[Step]) -> (String, bool) {
        let mut output = Vec::new();
        let mut report = Report::new(&mut output, style);
        report.begin("/demo/1").unwrap();
        for step in steps {
            report.tell(step).unwrap();
        }
        report.end(Duration::from_millis(12_345)).unwrap();
        let ok = report.is_ok();
        (String::from_utf8(output).unwrap(), ok)
    }

    #[test]
    fn one_failed_step_fails_the_whole() {
        let read = Step::passed("read", "n3: \"hello\"").took(Duration::from_micros(1_234));
        let write = Step::passed("write", "revision 2").fact("revision", 2);
        let check = Step::failed("check", "k7 is missing on n2");
        let (plain, ok) = text(Style::Plain, &[read.clone(), write.clone()]);
        assert!(ok);
        assert!(plain.contains("  ✓ read             1.2 ms   n3: \"hello\"\n"), "{plain}");
        assert!(plain.contains("  ✓ write                     revision 2\n"), "{plain}");
        assert!(plain.contains("All 2 checks passed in 12.3 s."), "{plain}");
        let (plain, ok) = text(Style::Plain, &[read, check, write]);
        assert!(!ok);
        assert!(plain.contains("1 failed, 2 passed"), "{plain}");
        assert!(!text(Style::Json, &[]).1, "nothing checked is nothing passed");
    }

    #[test]
    fn json_has_one_object_a_line_and_a_summary() {
        let write = Step::passed("write", "revision 2").fact("revision", 2);
        let (json, _) = text(Style::Json, &[write.took(Duration::from_millis(3))]);
        let mut lines = json.lines();
        let step = r#"{"step":"write","ok":true,"ms":3.0,"revision":2,"message":"revision 2"}"#;
        assert_eq!(lines.next(), Some(step));
        let summary = r#"{"step":"summary","ok":true,"ms":12345.0,"passed":1,"failed":0}"#;
        assert_eq!(lines.next(), Some(summary));
        assert_eq!(lines.next(), None);
    }
}
