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
use tahoma_core::{Diagnostic, Diagnostics};

static PASSES: Once = Once::new();

/// An MLIR context. Cheap enough (a few milliseconds) to make one per thread; it does not cross threads.
pub struct Session {
    context: Context,
    /// What MLIR reported since the last call, newest last.
    messages: Rc<RefCell<Vec<String>>>,
}

impl Session {
    /// A context with upstream dialects registered and `ml` and `trn` loaded. Errors: E0901 if our own IRDL text is refused.
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
            sink.borrow_mut().push(format!("{text} at {}", d.location()));
            true
        });
        let session = Session { context, messages };
        for text in [crate::irdl_text(), tahoma_machine::trn2::irdl::irdl_text()] {
            let loaded = MlirModule::parse(&session.context, &text).is_some_and(|m| load_irdl_dialects(&m));
            if !loaded {
                return Err(session.fail("E0901", "MLIR refuses the dialect that Tahoma prints"));
            }
        }
        Ok(session)
    }

    /// A diagnostic with everything MLIR said, and an empty list of messages after.
    fn fail(&self, code: &str, what: &str) -> Diagnostics {
        let mut d = Diagnostic::error(code, what);
        d.notes = self.messages.borrow_mut().drain(..).collect();
        d.into()
    }

    /// Parses, verifies and prints: generic form with locations in place. Errors: E0902 with MLIR's words.
    pub(crate) fn normalise(&self, text: &str, name: &str) -> Result<String, Diagnostics> {
        let module = self.parse(text, name)?;
        let flags = OperationPrintingFlags::new().enable_debug_info(true, false).print_generic_operation_form().use_local_scope();
        module.as_operation().to_string_with_flags(flags).map_err(|e| self.fail("E0901", &format!("{name} cannot be printed: {e}")))
    }

    fn parse<'c>(&'c self, text: &str, name: &str) -> Result<MlirModule<'c>, Diagnostics> {
        self.messages.borrow_mut().clear();
        let module = MlirModule::parse(&self.context, text).ok_or_else(|| self.fail("E0902", &format!("{name} is not valid MLIR")))?;
        if !module.as_operation().verify() {
            return Err(self.fail("E0902", &format!("{name} does not verify")));
        }
        Ok(module)
    }

    /// Runs a textual pass pipeline and prints the module. Errors: E0902 for the input, E0901 for a pass that fails.
    pub fn run_passes(&self, text: &str, pipeline: &str, name: &str) -> Result<String, Diagnostics> {
        let mut module = self.parse(text, name)?;
        let passes = PassManager::new(&self.context);
        parse_pass_pipeline(passes.as_operation_pass_manager(), pipeline)
            .map_err(|e| self.fail("E0901", &format!("the pass pipeline is refused: {e}")))?;
        passes.run(&mut module).map_err(|_| self.fail("E0901", &format!("a pass failed on {name}")))?;
        Ok(module.as_operation().to_string())
    }
}
