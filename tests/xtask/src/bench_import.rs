//! What reading a large graph takes: a generated chain with branches and shape arithmetic, in three sizes, beside onnx's own inference.

use crate::bench::measured;
use crate::say::say;
use crate::setup::venv_python;
use crate::shell::{cache, output, root};

/// The largest must be imported, all types inferred, within this.
const LIMIT_SECONDS: f64 = 5.0;
const SIZES: [usize; 3] = [25_000, 50_000, 100_000];

/// Writes a model of that many nodes: matrix products, residual sums, and reshapes to shapes that are computed from the values.
const GENERATE: &str = "\
import sys,numpy as np,onnx
from onnx import helper as h,numpy_helper as nh
n,path=int(sys.argv[1]),sys.argv[2]
nodes,x=[],'x'
for i in range(n//8):
 p=f'b{i}_'
 def add(op,ins,o,**a): nodes.append(h.make_node(op,ins,[p+o],name=p+o,**a))
 add('Relu',[x],'r');add('MatMul',[p+'r','w'],'m');add('Add',[p+'m',x],'a')
 add('Shape',[p+'a'],'s');add('Gather',[p+'s','zero'],'g');add('Concat',[p+'g','rest'],'c',axis=0)
 add('Reshape',[p+'a',p+'c'],'y');add('Tanh',[p+'y'],'t');x=p+'t'
w=[nh.from_array(np.full((8,8),.1,np.float32),'w'),nh.from_array(np.array([0]),'zero'),nh.from_array(np.array([8]),'rest')]
t=h.make_tensor_value_info
g=h.make_graph(nodes,'large',[t('x',1,['batch',8])],[t(x,1,['batch',8])],w)
onnx.save(h.make_model(g,opset_imports=[h.make_opsetid('',18)],ir_version=9),path)
";

/// Prints the seconds that onnx's shape inference takes on a file.
const INFER: &str = "\
import sys,time,onnx
m=onnx.load(sys.argv[1]);b=time.perf_counter();onnx.shape_inference.infer_shapes(m,data_prop=True);print(time.perf_counter()-b)
";

/// The table, as Markdown. Needs the command built for release.
pub(crate) fn table() -> Result<String, String> {
    let mut text = format!(
        "\n# What reading a large graph takes\n\n\
         {}\n\
         The `import` stage of `tahoma compile --stop-after import --time`: decoding, inferring all types, folding shape arithmetic. Limit for\n\
         {} nodes: {LIMIT_SECONDS} s. Beside it `onnx.shape_inference` with data propagation on the model in memory.\n\n\
         | nodes | import | of limit | a node | peak memory | onnx's inference | ratio |\n|---|---|---|---|---|---|---|\n",
        measured()?,
        SIZES[2]
    );
    let tahoma = root().join("target/release/tahoma").display().to_string();
    for n in SIZES {
        let model = cache().join(format!("bench/chain-{n}.onnx")).display().to_string();
        output(&venv_python(), &["-c", GENERATE, &n.to_string(), &model]).ok_or("the model could not be written")?;
        let dump = cache().join("bench/chain.mlir").display().to_string();
        let line = format!("{tahoma} compile {model} --shape x=4x8 --stop-after import --time 2>&1 >{dump}");
        let printed = output("sh", &["-c", &line]).ok_or_else(|| format!("{line} failed"))?;
        let printed = printed + &std::fs::read_to_string(&dump).unwrap_or_default();
        let row = |name: &str| {
            let line = printed.lines().rev().find(|l| l.trim_start().starts_with(name) && l.contains(" ms"))?;
            Some(line.split_whitespace().map(str::to_string).collect::<Vec<_>>())
        };
        let seconds = row("import").and_then(|w| w.get(1)?.parse::<f64>().ok()).ok_or("no import time")? / 1e3;
        let total = row("total").unwrap_or_default();
        let memory = total.iter().position(|w| w == "memory").map(|i| total[i + 1..].join(" ")).unwrap_or_default();
        let peer: f64 = output(&venv_python(), &["-c", INFER, &model]).and_then(|s| s.trim().parse().ok()).ok_or("onnx infers nothing")?;
        let row = format!(
            "| {n} | {seconds:.2} s | {:.0} % | {:.1} µs | {memory} | {peer:.2} s | {:.2} |\n",
            100.0 * seconds / LIMIT_SECONDS,
            seconds * 1e6 / n as f64,
            seconds / peer,
        );
        say(format_args!("{}", row.trim_end()));
        text += &row;
    }
    Ok(text)
}
