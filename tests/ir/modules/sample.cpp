#include <cstddef>
extern "C" int puts(const char *);
namespace shapes {
struct shape { virtual ~shape() {} virtual double area() const = 0; };
struct square : shape { double side; square(double s) : side(s) {} double area() const override { return side * side; } };
struct failure { int code; };
template <typename T> T largest(const T *values, std::size_t count) {
  if (!count) throw failure{1};
  T best = values[0];
  for (std::size_t i = 1; i < count; ++i) if (values[i] > best) best = values[i];
  return best;
}
}
double measure(const double *sides, std::size_t count) {
  try { shapes::square s(shapes::largest(sides, count)); shapes::shape *p = &s; return p->area(); }
  catch (const shapes::failure &f) { puts("nothing to measure"); return f.code; }
}
