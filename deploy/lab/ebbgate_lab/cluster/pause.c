// SPDX-License-Identifier: Apache-2.0
// What holds a pod's namespaces, and what a pod does that does nothing: it waits for the end, at once.
#include <signal.h>
#include <unistd.h>

static void end(int number) {
  (void)number;
  _exit(0);
}

int main(void) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  signal(SIGCHLD, SIG_IGN); // orphans of the pod are reaped without us
  for (;;)
    pause();
}
