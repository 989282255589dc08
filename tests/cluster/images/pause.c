/* Holds a pod's namespaces, reaps what is left to it when they share their processes, and ends when told to. */

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

static void reap(int signal)
{
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void)
{
    /* No other handler may run in one of these, so a mask of everything is right for all three. */
    struct sigaction action = { .sa_handler = end };
    sigfillset(&action.sa_mask);
    if (sigaction(SIGTERM, &action, NULL) || sigaction(SIGINT, &action, NULL))
        return EXIT_FAILURE;
    action.sa_handler = reap;
    if (sigaction(SIGCHLD, &action, NULL))
        return EXIT_FAILURE;
    for (;;)
        pause();
}
