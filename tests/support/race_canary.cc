// A deliberate data race. Under the thread sanitizer this must be reported, or its silence about the rest means nothing.
#include <thread>

int main() {
  int shared = 0;
  const auto race = [&shared] {
    for (int i = 0; i < 100'000; ++i) ++shared;
  };
  std::thread other(race);
  race();
  other.join();
  return shared == 0;
}
