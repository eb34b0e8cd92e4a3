// Tensors as JSON.

#ifndef KERAS_LUONG_REPLIES_H_
#define KERAS_LUONG_REPLIES_H_

#include <cstdio>
#include <string>

#include "process.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/bfloat16.h"

namespace runner {

inline std::string Hex(const char* data, size_t size) {
  static const char* digits = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < size; ++i) {
    const unsigned char byte = data[i];
    hex += digits[byte >> 4];
    hex += digits[byte & 15];
  }
  return hex;
}

// JSON has no infinity and no NaN; these are the words that Python's json module reads.
inline std::string Real(double value, const char* format) {
  if (value != value) return "NaN";
  if (value - value != 0) return value > 0 ? "Infinity" : "-Infinity";
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

inline std::string Json(float value) { return Real(value, "%.9g"); }
inline std::string Json(double value) { return Real(value, "%.17g"); }
inline std::string Json(Eigen::half value) { return Json(static_cast<float>(value)); }
inline std::string Json(tensorflow::bfloat16 value) { return Json(static_cast<float>(value)); }
inline std::string Json(bool value) { return value ? "true" : "false"; }
inline std::string Json(const tensorflow::tstring& value) {
  return '"' + Hex(value.data(), value.size()) + '"';
}
template <typename Integer>
std::string Json(Integer value) {
  return std::to_string(value);
}

template <typename T>
std::string JsonTensor(const char* dtype, const tensorflow::Tensor& tensor) {
  std::string json = std::string("{\"dtype\": \"") + dtype + "\", \"shape\": [";
  for (int i = 0; i < tensor.dims(); ++i) {
    json += (i ? ", " : "") + std::to_string(tensor.dim_size(i));
  }
  json += "], \"values\": [";
  const auto values = tensor.flat<T>();
  for (int64_t i = 0; i < values.size(); ++i) json += (i ? ", " : "") + Json(values(i));
  return json + "]}";
}

inline std::string JsonTensor(const std::string& name, const tensorflow::Tensor& tensor) {
  switch (tensor.dtype()) {
    case tensorflow::DT_FLOAT: return JsonTensor<float>("float32", tensor);
    case tensorflow::DT_DOUBLE: return JsonTensor<double>("float64", tensor);
    case tensorflow::DT_HALF: return JsonTensor<Eigen::half>("float16", tensor);
    case tensorflow::DT_BFLOAT16: return JsonTensor<tensorflow::bfloat16>("bfloat16", tensor);
    case tensorflow::DT_INT8: return JsonTensor<int8_t>("int8", tensor);
    case tensorflow::DT_INT16: return JsonTensor<int16_t>("int16", tensor);
    case tensorflow::DT_INT32: return JsonTensor<int32_t>("int32", tensor);
    case tensorflow::DT_INT64: return JsonTensor<int64_t>("int64", tensor);
    case tensorflow::DT_UINT8: return JsonTensor<uint8_t>("uint8", tensor);
    case tensorflow::DT_BOOL: return JsonTensor<bool>("bool", tensor);
    case tensorflow::DT_STRING: return JsonTensor<tensorflow::tstring>("string", tensor);
    default:
      Fail(kUsageError, "Output \"" + name + "\" has dtype " +
                            tensorflow::DataTypeString(tensor.dtype()) +
                            ", which this program does not print.");
  }
}

}  // namespace runner

#endif  // KERAS_LUONG_REPLIES_H_
