// Runs one signature of a SavedModel through the C++ loader that TensorFlow Serving uses.
//
//   saved_model_runner [--threads=N] [--measure] MODEL_DIR SIGNATURE INPUT_NAMES [OPS_SO ...]
//       < requests > replies
//
// As in the stock server, XLA compilation is switched off and no Python is in the process: the
// program refuses to run when a libpython is mapped. OPS_SO are libraries of custom ops, for
// instance those of tensorflow-text, which the server has linked in.
//
// INPUT_NAMES are separated by commas. A line of stdin is one request: a column of values for each
// input, in the order of the names and separated by semicolons. A value is the hexadecimal of a
// text, or of a number as it is written, followed by a comma. So "4869,," is the batch of "Hi" and
// "", "," the batch of one empty text and an empty line the batch of no rows; "4869,;302e35," has
// "Hi" and 0.5 in a row. Line breaks and bytes that are not UTF-8 pass. For an input of rank 2 a
// value is a row of numbers with spaces between them, "35203132," the batch of [5, 12]; all rows of
// a request have the same length.
//
// A line of stdout is the reply to one request, a JSON object:
//   {"NAME": {"dtype": "float32", "shape": [2, 3], "values": [...]}, ...}
// with the values in row-major order and strings in hexadecimal.
//
// With --threads=N all requests are read first; then N threads share the one session, each taking
// the next request as soon as it has done one. Replies keep the order of the requests.
//
// With --measure all requests are read first too, and a reply says what its request took instead of
// what it said: when it began, in seconds after the first, how long the session ran, and the bytes
// that the process held in memory when it was done:
//   {"began": 0.5, "seconds": 0.01, "resident": 123456789}
//
// The exit status says where it failed; the message is on stderr.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
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
tensorflow::Tensor Filled(const tensorflow::TensorInfo& input,
                          const std::vector<std::string>& values, Parse parse) {
  tensorflow::Tensor batch(input.dtype(), {static_cast<int64_t>(values.size())});
  auto rows = batch.flat<T>();
  for (size_t i = 0; i < values.size(); ++i) rows(i) = parse(values[i]);
  return batch;
}

int32_t Whole(const std::string& text) {
  return static_cast<int32_t>(std::strtol(text.c_str(), nullptr, 10));
}

// A matrix, each value one of its rows.
tensorflow::Tensor Rows(const std::vector<std::string>& values) {
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

bool IsReadable(const tensorflow::TensorInfo& input) {
  const auto& shape = input.tensor_shape();
  if (shape.unknown_rank()) return false;
  if (shape.dim_size() == 2) return input.dtype() == tensorflow::DT_INT32;
  return shape.dim_size() == 1 &&
         (input.dtype() == tensorflow::DT_STRING || input.dtype() == tensorflow::DT_FLOAT ||
          input.dtype() == tensorflow::DT_INT32);
}

tensorflow::Tensor Batch(const tensorflow::TensorInfo& input,
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

// A signature of a loaded model.
class Signature {
 public:
  using Feeds = std::vector<std::pair<std::string, tensorflow::Tensor>>;

  Signature(const tensorflow::SavedModelBundle& bundle, const std::string& name,
            const std::string& input_names)
      : session_(bundle.GetSession()) {
    const auto& signature = Find(bundle.GetSignatures(), name, "signature");
    for (const std::string& input : Split(input_names, ',')) {
      inputs_.push_back(Find(signature.inputs(), input, "input"));
      if (!IsReadable(inputs_.back())) {
        Fail(kUsageError, "Input \"" + input + "\" has dtype " +
                              tensorflow::DataTypeString(inputs_.back().dtype()) + " and shape " +
                              inputs_.back().tensor_shape().ShortDebugString() +
                              ", which this program does not read.");
      }
    }
    for (const auto& output : signature.outputs()) {
      names_.push_back(output.first);
      fetches_.push_back(output.second.name());
    }
  }

  Feeds Parse(const std::string& line) const {
    const std::vector<std::string> columns = Split(line, ';');
    if (columns.size() != inputs_.size()) Fail(kUsageError, "A request has a column an input.");
    Feeds feeds;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      feeds.emplace_back(inputs_[i].name(), Batch(inputs_[i], ParseColumn(columns[i])));
    }
    return feeds;
  }

  // Any number of threads may be in here.
  std::vector<tensorflow::Tensor> Run(const Feeds& feeds) const {
    std::vector<tensorflow::Tensor> outputs;
    const absl::Status ran = session_->Run(feeds, fetches_, {}, &outputs);
    if (!ran.ok()) Fail(kRunError, ran.ToString());
    return outputs;
  }

  std::string Reply(const std::vector<tensorflow::Tensor>& outputs) const {
    std::string reply = "{";
    for (size_t i = 0; i < names_.size(); ++i) {
      reply += (i ? ", \"" : "\"") + names_[i] + "\": " + JsonTensor(names_[i], outputs[i]);
    }
    return reply + "}";
  }

 private:
  tensorflow::Session* session_;
  std::vector<tensorflow::TensorInfo> inputs_;
  std::vector<std::string> names_, fetches_;
};

// Answers each request as soon as it is read.
void Stream(const Signature& signature) {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << signature.Reply(signature.Run(signature.Parse(line))) << std::endl;
  }
}

int64_t ResidentBytes() {
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

struct Options {
  int threads = 0;  // 0: answers as requests come
  bool measures = false;
};

struct Measured {
  double began, seconds;
  int64_t resident;
};

// Answers requests that are all in memory, in several threads.
void Share(const Signature& signature, const Options& options) {
  std::vector<Signature::Feeds> requests;
  for (std::string line; std::getline(std::cin, line);) requests.push_back(signature.Parse(line));
  // Nothing grows while requests are measured.
  std::vector<Measured> measured(options.measures ? requests.size() : 0);
  std::vector<std::string> replies(options.measures ? 0 : requests.size());
  const auto start = std::chrono::steady_clock::now();
  const auto now = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i; (i = next++) < requests.size();) {
      const double began = now();
      const std::vector<tensorflow::Tensor> outputs = signature.Run(requests[i]);
      if (options.measures) {
        const double seconds = now() - began;
        measured[i] = {began, seconds, ResidentBytes()};
      } else {
        replies[i] = signature.Reply(outputs);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < std::max(1, options.threads); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  for (const std::string& reply : replies) std::cout << reply << "\n";
  for (const Measured& one : measured) {
    std::cout << "{\"began\": " << Json(one.began) << ", \"seconds\": " << Json(one.seconds)
              << ", \"resident\": " << one.resident << "}\n";
  }
  std::cout.flush();
}

// Reads options and takes them from the front of the arguments.
Options TakeOptions(std::vector<std::string>& arguments) {
  Options options;
  while (!arguments.empty() && arguments[0].rfind("--", 0) == 0) {
    const std::string threads = "--threads=";
    if (arguments[0] == "--measure") {
      options.measures = true;
    } else if (arguments[0].rfind(threads, 0) == 0) {
      options.threads = std::atoi(arguments[0].c_str() + threads.size());
      if (options.threads < 1) Fail(kUsageError, "--threads is at least 1.");
    } else {
      Fail(kUsageError, "No option " + arguments[0] + ", only --threads=N and --measure.");
    }
    arguments.erase(arguments.begin());
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const Options options = TakeOptions(arguments);
  if (arguments.size() < 3) {
    Fail(kUsageError, std::string("Usage: ") + argv[0] +
                          " [--threads=N] [--measure] MODEL_DIR SIGNATURE INPUT_NAMES"
                          " [OPS_SO ...] < requests > replies");
  }
  tensorflow::DisableXlaCompilation();
  for (size_t i = 3; i < arguments.size(); ++i) LoadOps(arguments[i]);
  RefusePython();

  tensorflow::SavedModelBundle bundle;
  const absl::Status loaded =
      tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(),
                                 arguments[0], {"serve"}, &bundle);
  if (!loaded.ok()) Fail(kLoadError, loaded.ToString());

  const Signature signature(bundle, arguments[1], arguments[2]);
  if (options.threads || options.measures) {
    Share(signature, options);
  } else {
    Stream(signature);
  }
  RefusePython();
}
