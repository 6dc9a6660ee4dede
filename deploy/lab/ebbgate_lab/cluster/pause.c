// SPDX-License-Identifier: Apache-2.0
// What holds a pod's namespaces, and what a pod does that has nothing to do: it waits for its end.
#include <signal.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGCHLD, SIG_IGN); // nobody here waits for the pod's orphans
	for (;;)
		pause();
}
