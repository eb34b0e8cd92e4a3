// Columns of values, read from hexadecimal into tensors.

#ifndef KERAS_LUONG_REQUESTS_H_
#define KERAS_LUONG_REQUESTS_H_

#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "process.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace runner {

inline int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  Fail(kUsageError, std::string("Columns hold 0-9, a-f and commas, not '") + c + "'.");
}

inline std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

inline std::vector<std::string> ParseColumn(const std::string& line) {
  std::vector<std::string> texts;
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ',') {
      texts.push_back(std::move(text));
      text.clear();
    } else if (i + 1 < line.size()) {
      text.push_back(static_cast<char>(HexDigit(line[i]) * 16 + HexDigit(line[i + 1])));
      ++i;
    } else {
      Fail(kUsageError, "A request ends in half a byte.");
    }
  }
  if (!text.empty()) Fail(kUsageError, "A comma is missing after the last value of a column.");
  return texts;
}

template <typename T, typename Parse>
tensorflow::Tensor Filled(const tensorflow::TensorInfo& input,
                          const std::vector<std::string>& values, Parse parse) {
  tensorflow::Tensor batch(input.dtype(), {static_cast<int64_t>(values.size())});
  auto rows = batch.flat<T>();
  for (size_t i = 0; i < values.size(); ++i) rows(i) = parse(values[i]);
  return batch;
}

inline int32_t Whole(const std::string& text) {
  return static_cast<int32_t>(std::strtol(text.c_str(), nullptr, 10));
}

// A matrix, each value one of its rows.
inline tensorflow::Tensor Rows(const std::vector<std::string>& values) {
  std::vector<std::vector<int32_t>> rows;
  for (const std::string& value : values) {
    rows.emplace_back();
    std::istringstream words(value);
    for (std::string word; words >> word;) rows.back().push_back(Whole(word));
    if (rows.back().size() != rows[0].size()) {
      Fail(kUsageError, "The rows of a matrix have one length.");
    }
  }
  const int64_t columns = rows.empty() ? 0 : rows[0].size();
  tensorflow::Tensor batch(tensorflow::DT_INT32, {static_cast<int64_t>(rows.size()), columns});
  auto matrix = batch.matrix<int32_t>();
  for (size_t i = 0; i < rows.size(); ++i) {
    for (int64_t j = 0; j < columns; ++j) matrix(i, j) = rows[i][j];
  }
  return batch;
}

inline bool IsReadable(const tensorflow::TensorInfo& input) {
  const auto& shape = input.tensor_shape();
  if (shape.unknown_rank()) return false;
  if (shape.dim_size() == 2) return input.dtype() == tensorflow::DT_INT32;
  return shape.dim_size() == 1 &&
         (input.dtype() == tensorflow::DT_STRING || input.dtype() == tensorflow::DT_FLOAT ||
          input.dtype() == tensorflow::DT_INT32);
}

inline tensorflow::Tensor Batch(const tensorflow::TensorInfo& input,
                         const std::vector<std::string>& values) {
  if (input.tensor_shape().dim_size() == 2) return Rows(values);
  if (input.dtype() == tensorflow::DT_FLOAT) {
    return Filled<float>(input, values, [](const std::string& value) {
      return std::strtof(value.c_str(), nullptr);
    });
  }
  if (input.dtype() == tensorflow::DT_INT32) return Filled<int32_t>(input, values, Whole);
  return Filled<tensorflow::tstring>(input, values,
                                     [](const std::string& value) { return value; });
}

}  // namespace runner

#endif  // KERAS_LUONG_REQUESTS_H_
