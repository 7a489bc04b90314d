//! A context with our dialects loaded, and MLIR's diagnostics as ours.

use melior::Context;
use melior::dialect::DialectRegistry;
use melior::ir::Module as MlirModule;
use melior::ir::operation::{OperationLike, OperationPrintingFlags};
use melior::pass::PassManager;
use melior::utility::{
    load_irdl_dialects, parse_pass_pipeline, register_all_dialects, register_all_llvm_translations, register_all_passes,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;
use tahoma_core::escape::Quoted;
use tahoma_core::{Diagnostic, Diagnostics};

static PASSES: Once = Once::new();

/// An MLIR context. Cheap enough (a few milliseconds) to make one per thread; it does not cross threads.
///
/// What MLIR interns (types, attributes, locations) lives as long as the context, so modules are kept as text and parsed where needed.
pub struct Session {
    context: Context,
    /// What MLIR reported since the last call, newest last: where, what.
    messages: Rc<RefCell<Vec<(String, String)>>>,
}

impl Session {
    /// A context with upstream dialects registered (they load when a text uses them) and `ml` and `trn` loaded.
    /// Errors: E0901 if our own IRDL text is refused.
    pub fn new() -> Result<Session, Diagnostics> {
        PASSES.call_once(register_all_passes);
        let registry = DialectRegistry::new();
        register_all_dialects(&registry);
        let context = Context::new_with_registry(&registry, false);
        register_all_llvm_translations(&context);
        let messages = Rc::new(RefCell::new(vec![]));
        let sink = messages.clone();
        context.attach_diagnostic_handler(move |d| {
            let mut text = d.to_string();
            for i in 0..d.note_count() {
                if let Ok(n) = d.note(i) {
                    text.push_str(&format!("\n{n}"));
                }
            }
            sink.borrow_mut().push((d.location().to_string(), text));
            true
        });
        let session = Session { context, messages };
        for text in [crate::irdl_text(), tahoma_machine::trn2::irdl::irdl_text()] {
            let loaded = MlirModule::parse(&session.context, &text).is_some_and(|m| load_irdl_dialects(&m));
            if !loaded {
                return Err(session.fail("E0901", "MLIR refuses the dialect that Tahoma prints", "our IRDL").into());
            }
        }
        Ok(session)
    }

    /// A diagnostic with everything MLIR said about the text called `name`, and an empty list of messages after.
    fn fail(&self, code: &str, what: &str, name: &str) -> Diagnostic {
        let mut d = Diagnostic::error(code, what);
        d.notes = self.messages.borrow_mut().drain(..).map(|(at, text)| format!("{}{text}", place(&at, name))).collect();
        d
    }

    /// Parses, verifies and prints: generic form with locations in place, `name` as their file. Errors: E0902 with MLIR's words.
    pub(crate) fn normalise(&self, text: &str, name: &str) -> Result<String, Diagnostics> {
        let module = self.parse(text, name)?;
        let printed = self.print(&module, true, true)?;
        // MLIR calls every text "-". Quotes inside strings print as \22, so only locations match.
        Ok(printed.replace("loc(\"-\":", &format!("loc({}:", Quoted(name))))
    }

    /// A text of ours in custom syntax.
    pub(crate) fn pretty(&self, text: &str, locations: bool) -> Result<String, Diagnostics> {
        let module = self.parse(text, "a module")?;
        self.print(&module, false, locations)
    }

    fn print(&self, module: &MlirModule, generic: bool, locations: bool) -> Result<String, Diagnostics> {
        let mut flags = OperationPrintingFlags::new().enable_debug_info(locations, false).use_local_scope();
        if generic {
            flags = flags.print_generic_operation_form();
        }
        module
            .as_operation()
            .to_string_with_flags(flags)
            .map_err(|e| Diagnostic::error("E0901", format!("MLIR cannot print: {e}")).caused_by(e).into())
    }

    fn parse<'c>(&'c self, text: &str, name: &str) -> Result<MlirModule<'c>, Diagnostics> {
        self.messages.borrow_mut().clear();
        if text.contains('\0') {
            return Err(Diagnostic::error("E0902", format!("{name} is not text: it has a zero byte")).into());
        }
        if nested(text) > MAX_NESTING {
            return Err(Diagnostic::error("E0107", format!("{name} nests brackets more than {MAX_NESTING} deep")).into());
        }
        let module =
            MlirModule::parse(&self.context, text).ok_or_else(|| self.fail("E0902", &format!("{name} is not valid MLIR"), name))?;
        if !module.as_operation().verify() {
            return Err(self.fail("E0902", &format!("{name} does not verify"), name).into());
        }
        Ok(module)
    }

    /// Runs a pipeline. `verify` looks at the module after each pass: a fifth of the time of a pipeline of our own.
    fn passes<'c>(&'c self, module: &mut MlirModule<'c>, pipeline: &str, name: &str, verify: bool) -> Result<(), Diagnostics> {
        let passes = PassManager::new(&self.context);
        passes.enable_verifier(verify);
        parse_pass_pipeline(passes.as_operation_pass_manager(), pipeline)
            .map_err(|e| self.fail("E0901", &format!("the pass pipeline is refused: {e}"), name).caused_by(e))?;
        passes.run(module).map_err(|_| self.fail("E0901", &format!("a pass failed on {name}"), name).into())
    }

    /// Runs a textual pass pipeline and prints the module. What goes in is verified, and what each pass makes only in debug builds: for
    /// pipelines and texts of our own, which tests run. Errors: E0902 for the input, E0901 for a pass that fails.
    pub(crate) fn run_trusted(&self, text: &str, pipeline: &str, name: &str) -> Result<String, Diagnostics> {
        let mut module = self.parse(text, name)?;
        self.passes(&mut module, pipeline, name, cfg!(debug_assertions))?;
        self.print(&module, false, false)
    }

    /// Any pipeline between normal forms: locations stay.
    pub(crate) fn rewrite(&self, text: &str, pipeline: &str) -> Result<String, Diagnostics> {
        let mut module = self.parse(text, "a module")?;
        self.passes(&mut module, pipeline, "a module", true)?;
        self.print(&module, true, true)
    }
}

/// `loc("-":3:7)` as `name:3:7: `; other locations as they are; nothing for an unknown one.
fn place(location: &str, name: &str) -> String {
    let inside = location.strip_prefix("loc(").and_then(|l| l.strip_suffix(')')).unwrap_or(location);
    match inside.strip_prefix("\"-\":") {
        Some(at) => format!("{name}:{at}: "),
        None if inside == "unknown" => String::new(),
        None => format!("{inside}: "),
    }
}

/// Deepest nesting of a text: MLIR's parser and printer call themselves for each level and would run out of stack.
const MAX_NESTING: usize = 256;

/// How deep brackets, and runs of signs, are in each other outside strings and comments. Arrows and comparisons open nothing.
fn nested(text: &str) -> usize {
    let (mut depth, mut most, mut signs) = (0usize, 0usize, 0usize);
    let mut bytes = text.bytes().peekable();
    while let Some(b) = bytes.next() {
        signs = if b == b'-' { signs + 1 } else { 0 };
        match b {
            b'"' => while bytes.next_if(|&b| b != b'"').is_some_and(|b| b != b'\\' || bytes.next().is_some()) {},
            b'/' if bytes.peek() == Some(&b'/') => while bytes.next_if(|&b| b != b'\n').is_some() {},
            b'-' if bytes.next_if_eq(&b'>').is_some() => {}
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if b == b'"' {
            bytes.next();
        }
        most = most.max(depth + signs);
    }
    most
}
