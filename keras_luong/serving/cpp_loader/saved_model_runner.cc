// Runs one signature of a SavedModel through the C++ loader that TensorFlow Serving uses.
//
//   saved_model_runner [--threads=N] [--measure] MODEL_DIR SIGNATURE INPUT_NAMES [OPS_SO ...]
//       < requests > replies
//   saved_model_runner --soak=SECONDS [--swap=SECONDS] [--threads=N] [OPS_SO ...] < rows > counts
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
// With --soak=SECONDS there are no replies: soak.h says what is read, done and counted.
//
// The exit status says where it failed; the message is on stderr.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "model.h"
#include "process.h"
#include "replies.h"
#include "soak.h"
#include "tensorflow/compiler/jit/flags.h"

namespace runner {
namespace {

// Answers each request as soon as it is read.
void Stream(const Signature& signature) {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << signature.Reply(signature.Run(signature.Parse(line))) << std::endl;
  }
}

struct Options {
  int threads = 0;  // 0: answers as requests come
  bool measures = false;
  double soak = 0, swap = 0;  // seconds
};

struct Measured {
  double began, seconds;
  int64_t resident;
};

// Answers requests that are all in memory, in several threads.
void Share(const Signature& signature, const Options& options) {
  std::vector<Tensors> requests;
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
      const Tensors outputs = signature.Run(requests[i]);
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

// Sends the requests of stdin through one signature.
void Answer(const std::vector<std::string>& arguments, const Options& options) {
  const auto bundle = Load(arguments[0]);
  const Signature signature(*bundle, arguments[1], arguments[2]);
  if (options.threads || options.measures) {
    Share(signature, options);
  } else {
    Stream(signature);
  }
}

// The number after "NAME=", which has to be at least `least`; false where another option stands.
bool TakeNumber(const std::string& option, const std::string& name, double least, double* number) {
  if (option.rfind(name + "=", 0) != 0) return false;
  *number = std::atof(option.c_str() + name.size() + 1);
  if (*number < least) Fail(kUsageError, name + " is at least " + Json(float(least)) + ".");
  return true;
}

// Reads options and takes them from the front of the arguments.
Options TakeOptions(std::vector<std::string>& arguments) {
  Options options;
  while (!arguments.empty() && arguments[0].rfind("--", 0) == 0) {
    const std::string& option = arguments[0];
    double threads;
    if (TakeNumber(option, "--threads", 1, &threads)) {
      options.threads = threads;
    } else if (option == "--measure") {
      options.measures = true;
    } else if (!TakeNumber(option, "--soak", 1, &options.soak) &&
               !TakeNumber(option, "--swap", 0, &options.swap)) {
      Fail(kUsageError, "No option " + option +
                            ", only --threads=N, --measure, --soak=SECONDS and --swap=SECONDS.");
    }
    arguments.erase(arguments.begin());
  }
  return options;
}

int Main(std::vector<std::string> arguments) {
  const std::string program = arguments[0];
  arguments.erase(arguments.begin());
  const Options options = TakeOptions(arguments);
  // What stands before the libraries of ops.
  const size_t names = options.soak ? 0 : 3;
  if (arguments.size() < names) {
    Fail(kUsageError, "Usage: " + program +
                          " [--threads=N] [--measure] MODEL_DIR SIGNATURE INPUT_NAMES"
                          " [OPS_SO ...] < requests > replies, or --soak=SECONDS [--swap=SECONDS]"
                          " [--threads=N] [OPS_SO ...] < rows > counts");
  }
  tensorflow::DisableXlaCompilation();
  for (size_t i = names; i < arguments.size(); ++i) LoadOps(arguments[i]);
  RefusePython();
  if (options.soak) {
    std::cout << Soak(std::cin, options.soak, options.swap, std::max(1, options.threads))
              << std::endl;
  } else {
    Answer(arguments, options);
  }
  RefusePython();
  return 0;
}

}  // namespace
}  // namespace runner

int main(int argc, char** argv) { return runner::Main({argv, argv + argc}); }
