// Whether a row of a batch is what it is alone.

#ifndef KERAS_LUONG_SAME_ROW_H_
#define KERAS_LUONG_SAME_ROW_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "process.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"

namespace runner {

// How far float numbers may be apart, relative to those beyond 1. A matrix product of another number
// of rows adds in another order: of float32 that leaves some 1e-6 in a sum of log probabilities.
constexpr double kTolerance = 1e-4;

inline double Apart(float one, float other) {
  return one == other ? 0 : std::abs(one - other) / std::max(1.f, std::abs(other));
}

inline bool IsSame(float one, float other, double* apart) {
  const double here = Apart(one, other);
  *apart = std::max(*apart, here);
  return here <= kTolerance;  // false for NaN
}

template <typename T>
bool IsSame(const T& one, const T& other, double*) {
  return one == other;
}

// Axis 0 of `alone` has one row. Where the mates in the batch are longer, there is nothing.
template <typename T>
bool SameRowOf(const tensorflow::Tensor& batch, int64_t row, const tensorflow::Tensor& alone,
               double* apart) {
  const int64_t size = batch.NumElements() / batch.dim_size(0);
  const auto there = batch.flat<T>();
  const auto here = alone.flat<T>();
  const T nothing{};
  for (int64_t i = 0; i < size; ++i) {
    // The same place in `alone`, from the last axis to the first.
    int64_t rest = i, place = 0, stride = 1;
    bool is_inside = true;
    for (int axis = batch.dims() - 1; axis > 0; --axis) {
      const int64_t index = rest % batch.dim_size(axis);
      rest /= batch.dim_size(axis);
      is_inside &= index < alone.dim_size(axis);
      place += index * stride;
      stride *= alone.dim_size(axis);
    }
    const T& expected = is_inside ? here(place) : nothing;
    if (!IsSame(there(row * size + i), expected, apart)) return false;
  }
  return true;
}

inline bool HasRoom(const tensorflow::Tensor& batch, const tensorflow::Tensor& alone) {
  if (batch.dtype() != alone.dtype() || batch.dims() != alone.dims()) return false;
  for (int axis = 1; axis < batch.dims(); ++axis) {
    if (batch.dim_size(axis) < alone.dim_size(axis)) return false;
  }
  return true;
}

// `apart` becomes the largest distance of two numbers that has been seen.
inline bool SameRow(const tensorflow::Tensor& batch, int64_t row, const tensorflow::Tensor& alone,
                    double* apart) {
  if (!HasRoom(batch, alone)) return false;
  switch (batch.dtype()) {
    case tensorflow::DT_FLOAT: return SameRowOf<float>(batch, row, alone, apart);
    case tensorflow::DT_INT32: return SameRowOf<int32_t>(batch, row, alone, apart);
    case tensorflow::DT_INT64: return SameRowOf<int64_t>(batch, row, alone, apart);
    case tensorflow::DT_BOOL: return SameRowOf<bool>(batch, row, alone, apart);
    case tensorflow::DT_STRING: return SameRowOf<tensorflow::tstring>(batch, row, alone, apart);
    default:
      Fail(kUsageError,
           "Rows of " + tensorflow::DataTypeString(batch.dtype()) + " are not compared.");
  }
}

}  // namespace runner

#endif  // KERAS_LUONG_SAME_ROW_H_
