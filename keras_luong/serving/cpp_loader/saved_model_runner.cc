// Runs one signature of a SavedModel through the C++ loader that TensorFlow Serving uses.
//
//   saved_model_runner MODEL_DIR SIGNATURE INPUT_NAMES [OPS_SO ...] < requests > replies
//
// As in the stock server, XLA compilation is switched off and no Python is in the process: the
// program refuses to run when a libpython is mapped. OPS_SO are libraries of custom ops, for
// instance those of tensorflow-text, which the server has linked in.
//
// INPUT_NAMES are separated by commas. A line of stdin is one request: a column of values for each
// input, in the order of the names and separated by semicolons. A value is the hexadecimal of a
// text, or of a number as it is written, followed by a comma. So "4869,," is the batch of "Hi" and
// "", "," the batch of one empty text and an empty line the batch of no rows; "4869,;302e35," has
// "Hi" and 0.5 in a row. Line breaks and bytes that are not UTF-8 pass.
//
// A line of stdout is the reply to one request, a JSON object:
//   {"NAME": {"dtype": "float32", "shape": [2, 3], "values": [...]}, ...}
// with the values in row-major order and strings in hexadecimal.
//
// The exit status says where it failed; the message is on stderr.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/compiler/jit/flags.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/bfloat16.h"
#include "tensorflow/core/public/session.h"
#include "tensorflow/core/public/session_options.h"

namespace {

enum ExitStatus {
  kUsageError = 2,      // arguments, requests, or a signature that the model does not have
  kLoadError = 3,       // the ops or the model do not load
  kRunError = 4,        // the loaded model fails on a request
  kPythonInProcess = 5  // the proof would be void
};

// Leaves without running destructors: TensorFlow's threads may still be at work.
[[noreturn]] void Fail(ExitStatus status, const std::string& message) {
  std::cerr << message << std::endl;
  std::_Exit(status);
}

void RefusePython() {
  std::ifstream maps("/proc/self/maps");
  if (!maps) Fail(kPythonInProcess, "Cannot read /proc/self/maps to look for Python.");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/libpython") != std::string::npos) {
      Fail(kPythonInProcess, "Python is mapped into this process: " + line);
    }
  }
}

void LoadOps(const std::string& path) {
  TF_Status* status = TF_NewStatus();
  TF_LoadLibrary(path.c_str(), status);
  if (TF_GetCode(status) != TF_OK) {
    Fail(kLoadError, "Cannot load the ops of " + path + ": " + TF_Message(status));
  }
  TF_DeleteStatus(status);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  Fail(kUsageError, std::string("Columns hold 0-9, a-f and commas, not '") + c + "'.");
}

std::vector<std::string> Split(const std::string& text, char separator) {
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

std::vector<std::string> ParseColumn(const std::string& line) {
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
tensorflow::Tensor Filled(tensorflow::DataType dtype, const std::vector<std::string>& values,
                          Parse parse) {
  tensorflow::Tensor batch(dtype, {static_cast<int64_t>(values.size())});
  auto rows = batch.flat<T>();
  for (size_t i = 0; i < values.size(); ++i) rows(i) = parse(values[i]);
  return batch;
}

bool IsReadable(tensorflow::DataType dtype) {
  return dtype == tensorflow::DT_STRING || dtype == tensorflow::DT_FLOAT ||
         dtype == tensorflow::DT_INT32;
}

tensorflow::Tensor Batch(tensorflow::DataType dtype, const std::vector<std::string>& values) {
  if (dtype == tensorflow::DT_FLOAT) {
    return Filled<float>(dtype, values,
                         [](const std::string& value) { return std::strtof(value.c_str(), 0); });
  }
  if (dtype == tensorflow::DT_INT32) {
    return Filled<int32_t>(dtype, values, [](const std::string& value) {
      return static_cast<int32_t>(std::strtol(value.c_str(), 0, 10));
    });
  }
  return Filled<tensorflow::tstring>(dtype, values,
                                     [](const std::string& value) { return value; });
}

std::string Hex(const char* data, size_t size) {
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
std::string Real(double value, const char* format) {
  if (value != value) return "NaN";
  if (value - value != 0) return value > 0 ? "Infinity" : "-Infinity";
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string Json(float value) { return Real(value, "%.9g"); }
std::string Json(double value) { return Real(value, "%.17g"); }
std::string Json(Eigen::half value) { return Json(static_cast<float>(value)); }
std::string Json(tensorflow::bfloat16 value) { return Json(static_cast<float>(value)); }
std::string Json(bool value) { return value ? "true" : "false"; }
std::string Json(const tensorflow::tstring& value) {
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

std::string JsonTensor(const std::string& name, const tensorflow::Tensor& tensor) {
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

template <typename Map>
const typename Map::mapped_type& Find(const Map& map, const std::string& key,
                                      const std::string& what) {
  const auto found = map.find(key);
  if (found == map.end()) {
    std::string known;
    for (const auto& item : map) known += " \"" + item.first + "\"";
    Fail(kUsageError, "No " + what + " \"" + key + "\" in the model, which has" + known + ".");
  }
  return found->second;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    Fail(kUsageError, std::string("Usage: ") + argv[0] +
                          " MODEL_DIR SIGNATURE INPUT_NAMES [OPS_SO ...] < requests > replies");
  }
  tensorflow::DisableXlaCompilation();
  for (int i = 4; i < argc; ++i) LoadOps(argv[i]);
  RefusePython();

  tensorflow::SavedModelBundle bundle;
  const absl::Status loaded =
      tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(), argv[1],
                                 {"serve"}, &bundle);
  if (!loaded.ok()) Fail(kLoadError, loaded.ToString());

  const auto& signature = Find(bundle.GetSignatures(), argv[2], "signature");
  std::vector<tensorflow::TensorInfo> inputs;
  for (const std::string& name : Split(argv[3], ',')) {
    inputs.push_back(Find(signature.inputs(), name, "input"));
    if (!IsReadable(inputs.back().dtype())) {
      Fail(kUsageError, "Input \"" + name + "\" has dtype " +
                            tensorflow::DataTypeString(inputs.back().dtype()) +
                            ", which this program does not read.");
    }
  }
  std::vector<std::string> names, fetches;
  for (const auto& output : signature.outputs()) {
    names.push_back(output.first);
    fetches.push_back(output.second.name());
  }

  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<std::string> columns = Split(line, ';');
    if (columns.size() != inputs.size()) Fail(kUsageError, "A request has a column an input.");
    std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
    for (size_t i = 0; i < inputs.size(); ++i) {
      feeds.emplace_back(inputs[i].name(), Batch(inputs[i].dtype(), ParseColumn(columns[i])));
    }
    std::vector<tensorflow::Tensor> outputs;
    const absl::Status ran = bundle.GetSession()->Run(feeds, fetches, {}, &outputs);
    if (!ran.ok()) Fail(kRunError, ran.ToString());
    std::string reply = "{";
    for (size_t i = 0; i < names.size(); ++i) {
      reply += (i ? ", \"" : "\"") + names[i] + "\": " + JsonTensor(names[i], outputs[i]);
    }
    std::cout << reply << "}" << std::endl;
  }
  RefusePython();
}
