#include <stdio.h>
#include <string.h>
struct point { int x, y; };
static const char *names[] = {"north", "east", "south", "west"};
static int counter;
__attribute__((noinline)) static int twice(int value) { return 2 * value; }
int classify(struct point *p, const char *name) {
  int total = 0;
  for (int i = 0; i < 4; i++) {
    if (strcmp(names[i], name) == 0) { total += twice(i); break; }
    switch (p->x + i) { case 1: total += 3; break; case 2: case 5: total -= p->y; break; default: counter++; }
  }
  return total ? total : printf("%s has no direction\n", name);
}
