//! The table of diagnostic codes. `tahoma explain CODE`, the reference and the tests read it.
//! E01xx reading files · E02xx import and shapes · E03xx rewriting · E04xx kernels · E05xx targets · E06xx running · E07xx command line · E09xx our own bugs.

use crate::diag::CodeDef;

macro_rules! codes { ($($code:literal $title:literal $text:literal;)*) => { &[$(CodeDef { code: $code, title: $title, explanation: $text }),*] } }

pub static CODES: &[CodeDef] = codes! {
    "E0101" "file cannot be read" "The path does not exist, is not a regular file, or the system refused it. The message carries the system's reason.";
    "E0102" "not an ONNX file" "The bytes are not a protobuf ModelProto: truncated, another format, or damaged. Check the download; a model file starts with its ir_version.";
    "E0103" "external data refused" "A tensor points outside the model's folder, through a link, or at bytes the file does not have. External data must be a regular file below the model's folder.";
    "E0104" "pickle refused" "Pickled checkpoints run code when loaded, so Tahoma never reads them. Save with safetensors: model.save_pretrained(dir, safe_serialization=True).";
    "E0105" "malformed safetensors" "The header or the offsets break the safetensors format. Each rule broken is named in the message.";
    "E0106" "malformed .npy" "The file is not a NumPy array that Tahoma reads (version 1 to 3, C or Fortran order, numbers or bool).";
    "E0107" "over budget" "The file asks for more nodes, nesting, elements or bytes than the reader's budget allows.";
    "E0108" "malformed config.json" "A key that decides the architecture is missing, has the wrong type or an impossible value.";
    "E0201" "operator not known" "The model uses operators that Tahoma cannot import; all of them are listed in one run, each with its nodes and the closest supported one.";
    "E0202" "graph is not well formed" "A value is used before it is made, made twice, or never made; or the graph has a cycle.";
    "E0203" "shapes do not fit" "The operands of an operator have shapes that its definition does not allow.";
    "E0204" "types do not fit" "The operands of an operator have number types that its definition does not allow.";
    "E0205" "attribute is wrong" "An attribute is missing, has the wrong type, or a value outside the operator's definition.";
    "E0206" "tensor is malformed" "An initialiser's data does not match its shape and type.";
    "E0207" "dimension is not usable" "A dimension given is not a non-negative integer, or does not match the model's.";
    "E0208" "opset not known" "The model imports an operator set that Tahoma does not know, or none that its nodes need.";
    "E0209" "shape is not known" "The stage needs every dimension as a number. Give the open ones with --shape NAME=1x3x224x224 or with real inputs.";
    "E0210" "tensor is missing" "The checkpoint has no tensor of that name, or one of another shape than config.json says.";
    "E0211" "architecture not supported" "No builder for this model_type. The message lists the supported ones.";
    "E0212" "tensor is not used" "The checkpoint holds a tensor the architecture does not have; refusing is safer than ignoring a part of the model.";
    "E0301" "rewrite changed a type" "A rewrite rule joined two values of different types. This is a fault in the rule; the message names it.";
    "E0401" "kernel cannot be formed" "A group of ops does not fit any kernel form of the target.";
    "E0501" "target not known" "Targets are trn2 and the sm_ names that `tahoma compile --help` lists.";
    "E0502" "target cannot run this" "The op has neither a kernel nor a host form on this target.";
    "E0503" "limit of the machine exceeded" "A kernel needs more SBUF, PSUM, shared memory or registers than the machine has.";
    "E0601" "input is missing or not wanted" "Each graph input needs exactly one --input NAME=FILE.npy; the message lists the inputs with their types.";
    "E0602" "input has the wrong type or shape" "The array given does not have the type or shape of the graph input.";
    "E0603" "kernel fault" "A kernel broke a rule of its machine, as a simulator, the emulator or the device's driver says. This is a fault of the compiler, not of the model: please report it with the artifact.";
    "E0604" "device not available" "The driver or the device is not present on this machine.";
    "E0605" "artifact is malformed" "The folder is not an artifact of this version; or a file in it does not match its hash (tahoma run --allow-edited runs what people changed, tahoma verify ARTIFACT checks it); or the manifest is not consistent in itself: what kernels read and write, the order of steps, every type and every size are proved before anything is loaded.";
    "E0606" "evaluation failed" "An op could not be evaluated on these values; the message says why.";
    "E0607" "weights changed" "A weight file differs from the one the model was compiled with.";
    "E0608" "results differ" "A stage or a device gave another answer than the reference interpreter, beyond the stated tolerance.";
    "E0609" "not enough memory" "The model, as it is asked for, needs more memory than the machine or its container has free; the message has both numbers. Nothing was allocated. Fix open dimensions to smaller numbers with --dim or --shape, or use a machine with more memory.";
    "E0611" "kernels for another chip" "The artifact was compiled for another chip than the one that should run it. The message names the card and the target that fits it.";
    "E0612" "device memory is full" "The device has less free memory than the model needs; the message says how much. A smaller batch or shape needs less.";
    "E0701" "bad argument" "A command-line argument has no meaning here; the message says which form it takes.";
    "E0702" "output cannot be written" "The output path exists and is not ours, or the system refused it. Nothing was left half written.";
    "E0901" "internal error" "A fault of Tahoma itself. The message names the step; please report it with the reproducer it wrote.";
    "E0902" "module does not verify" "A module breaks the rules of its dialect. For a file of yours, the message says where; for one of Tahoma's, please report it.";
};

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_sorted_and_single() {
        let c: Vec<_> = super::CODES.iter().map(|c| c.code).collect();
        assert!(c.windows(2).all(|w| w[0] < w[1]));
    }
}
