// Batches of rows, and requests that no client should send.

#ifndef KERAS_LUONG_BATCH_H_
#define KERAS_LUONG_BATCH_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "model.h"
#include "process.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor_util.h"
#include "tensorflow/core/framework/types.h"

namespace runner {

// Rows that are tensors of one row each, on top of each other. Shorter ones are padded with 0.
template <typename T>
tensorflow::Tensor StackOf(const std::vector<tensorflow::Tensor>& rows,
                           const tensorflow::Tensor& like) {
  const bool is_matrix = like.dims() == 2;
  int64_t longest = is_matrix ? 0 : 1;
  for (const auto& row : rows) longest = std::max(longest, row.NumElements());
  tensorflow::TensorShape shape({static_cast<int64_t>(rows.size())});
  if (is_matrix) shape.AddDim(longest);
  tensorflow::Tensor stack(like.dtype(), shape);
  auto values = stack.flat<T>();
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = rows[i].flat<T>();
    for (int64_t j = 0; j < longest; ++j) values(i * longest + j) = j < row.size() ? row(j) : T{};
  }
  return stack;
}

// `like` has the type and rank that also a stack of no rows has.
inline tensorflow::Tensor Stack(const std::vector<tensorflow::Tensor>& rows,
                                const tensorflow::Tensor& like) {
  switch (like.dtype()) {
    case tensorflow::DT_FLOAT: return StackOf<float>(rows, like);
    case tensorflow::DT_INT32: return StackOf<int32_t>(rows, like);
    case tensorflow::DT_STRING: return StackOf<tensorflow::tstring>(rows, like);
    default: Fail(kUsageError, "Rows of this type are not read.");
  }
}

// The inputs of a request, of `count` rows.
inline Tensors Stacked(const std::vector<Tensors>& rows, const std::vector<size_t>& chosen) {
  Tensors inputs;
  for (size_t input = 0; input < rows[0].size(); ++input) {
    std::vector<tensorflow::Tensor> column;
    for (const size_t row : chosen) column.push_back(rows[row][input]);
    inputs.push_back(Stack(column, rows[0][input]));
  }
  return inputs;
}

// What may be wrong with a request beside its values. `add` says whether it could be added.
struct Flaw {
  const char* name;
  bool (*add)(Tensors* inputs);
};

inline bool DropInput(Tensors* inputs) {
  inputs->pop_back();
  return true;
}

inline bool AddAxis(Tensors* inputs) {
  if (inputs->front().dim_size(0) == 0) return false;  // no rows are no rows
  tensorflow::TensorShape shape = inputs->front().shape();
  shape.AddDim(1);
  tensorflow::Tensor reshaped(inputs->front().dtype());
  if (!reshaped.CopyFrom(inputs->front(), shape)) Fail(kUsageError, "No axis can be added.");
  inputs->front() = reshaped;
  return true;
}

inline bool ChangeType(Tensors* inputs) {
  inputs->front() = tensorflow::Tensor(tensorflow::DT_DOUBLE, inputs->front().shape());
  return true;
}

inline bool DoubleRowsOfOneInput(Tensors* inputs) {
  tensorflow::Tensor& last = inputs->back();
  if (inputs->size() == 1 || last.dim_size(0) == 0) return false;
  return tensorflow::tensor::Concat({last, last}, &last).ok();
}

inline const std::vector<Flaw>& Flaws() {
  static const std::vector<Flaw> flaws = {{"an input too few", DropInput},
                                          {"an axis too many", AddAxis},
                                          {"another type", ChangeType},
                                          {"inputs of unequal rows", DoubleRowsOfOneInput}};
  return flaws;
}

}  // namespace runner

#endif  // KERAS_LUONG_BATCH_H_
