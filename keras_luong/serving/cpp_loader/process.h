// The process: how it ends, what is mapped into it, how large it is.

#ifndef KERAS_LUONG_PROCESS_H_
#define KERAS_LUONG_PROCESS_H_

#include <malloc.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "tensorflow/c/c_api.h"

namespace runner {

enum ExitStatus {
  kUsageError = 2,      // arguments, requests, or a signature that the model does not have
  kLoadError = 3,       // the ops or the model do not load
  kRunError = 4,        // the loaded model fails on a request
  kPythonInProcess = 5  // the proof would be void
};

// Leaves without running destructors: TensorFlow's threads may still be at work.
[[noreturn]] inline void Fail(ExitStatus status, const std::string& message) {
  std::cerr << message << std::endl;
  std::_Exit(status);
}

inline void RefusePython() {
  std::ifstream maps("/proc/self/maps");
  if (!maps) Fail(kPythonInProcess, "Cannot read /proc/self/maps to look for Python.");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/libpython") != std::string::npos) {
      Fail(kPythonInProcess, "Python is mapped into this process: " + line);
    }
  }
}

inline void LoadOps(const std::string& path) {
  TF_Status* status = TF_NewStatus();
  TF_LoadLibrary(path.c_str(), status);
  if (TF_GetCode(status) != TF_OK) {
    Fail(kLoadError, "Cannot load the ops of " + path + ": " + TF_Message(status));
  }
  TF_DeleteStatus(status);
}

inline int64_t ResidentBytes() {
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// What has been allocated and not freed. Old C libraries count in 32 bits.
inline int64_t AllocatedBytes() {
#if __GLIBC_PREREQ(2, 33)
  const auto memory = mallinfo2();
#else
  const auto memory = mallinfo();
#endif
  return static_cast<int64_t>(memory.uordblks) + static_cast<int64_t>(memory.hblkhd);
}

}  // namespace runner

#endif  // KERAS_LUONG_PROCESS_H_
