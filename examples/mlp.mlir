// Two dense layers with a ReLU between, as a module of the ml dialect.
func.func @main(%x: tensor<4x16xf32>, %w1: tensor<16x32xf32>, %b1: tensor<32xf32>, %w2: tensor<32x8xf32>) -> tensor<4x8xf32>
    attributes {ml.inputs = ["x", "w1", "b1", "w2"], ml.outputs = ["y"]} {
  %0 = "ml.matmul"(%x, %w1) : (tensor<4x16xf32>, tensor<16x32xf32>) -> tensor<4x32xf32>
  %1 = "ml.add"(%0, %b1) : (tensor<4x32xf32>, tensor<32xf32>) -> tensor<4x32xf32>
  %2 = "ml.relu"(%1) : (tensor<4x32xf32>) -> tensor<4x32xf32>
  %3 = "ml.matmul"(%2, %w2) : (tensor<4x32xf32>, tensor<32x8xf32>) -> tensor<4x8xf32>
  return %3 : tensor<4x8xf32>
}
