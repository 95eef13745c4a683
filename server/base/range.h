// An interval of reals that a request's field may be in.
#pragma once

namespace ebbinghaus::base {

struct Range {
  double low = 0, high = 0;
  bool low_open = false, high_open = false;

  // Whether v is in it as fp32, in which the engine computes: what that rounds to an open bound is out. NaN is in none.
  bool Has(double v) const {
    if (!(v >= low && v <= high)) return false;
    return !(low_open && static_cast<float>(v) <= low) && !(high_open && static_cast<float>(v) >= high);
  }

  // What to add to the interval's text for a reader who sees a v that Has() does not take.
  const char* Remark(double v) const { return v > low && v < high ? " as a 32-bit real" : ""; }
};

}  // namespace ebbinghaus::base
