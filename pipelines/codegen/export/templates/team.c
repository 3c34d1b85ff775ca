/* -- several threads: the calling one is number 0, the others wait in the compiled code for jobs */

static void set_field(struct team *team, size_t place, int64_t value) { memcpy(team->state + place, &value, sizeof value); }

static void set_job(struct team *team, void (*code)(void **), void *arguments, int64_t stride) {
  set_field(team, {{ pool.code }}, (int64_t)(intptr_t)code);
  set_field(team, {{ pool.arguments }}, (int64_t)(intptr_t)arguments);
  set_field(team, {{ pool.stride }}, stride);
}

static void *live(void *member) {
  struct member *me = member;
  {{ pool_names.work }}(me->team->address, me->number, me->generation);
  return NULL;
}

/* How often a waiting thread looks at memory before it lets others have its core. */
static int64_t wait_spins(void) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) < {{ threads }}) return 1;
  double shortest = 1.0;
  for (int k = 0; k < 5; k++) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    {{ pool_names.spin }}({{ pool.spins_timed }});
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    if (seconds > 0 && seconds < shortest) shortest = seconds;
  }
  int64_t spins = (int64_t)({{ pool.spin_seconds }} * {{ pool.spins_timed }} / shortest);
  return spins > 1 ? spins : 1;
}

static void end_workers(struct team *team, int count) {
  set_job(team, NULL, NULL, 0);
  {{ pool_names.dispatch }}(team->address);
  for (int k = 0; k < count; k++) pthread_join(team->workers[k], NULL);
  team->process = 0;
}

/* Starts the workers; in a process that was forked from theirs, once more. */
static int start_workers(struct team *team) {
  memset(team->state, 0, sizeof team->state);
  team->address = (int64_t)(intptr_t)team->state;
  set_field(team, {{ pool.threads }}, {{ threads }});
  set_field(team, {{ pool.wait_spins }}, wait_spins());
  set_field(team, {{ pool.idle_offers }}, {{ pool.offers }});
  sigset_t all, before; /* signals are for the program's own threads */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int started = 0;
  for (; started < {{ threads - 1 }}; started++) {
    team->members[started] = (struct member){team, started + 1, 0};
    if (pthread_create(&team->workers[started], NULL, live, &team->members[started]) != 0) break;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (started < {{ threads - 1 }}) {
    end_workers(team, started);
    return 0;
  }
  team->process = getpid();
  return 1;
}

static void set_up_team(struct workspace *space) {
  struct team *team = &space->team;
  team->process = 0;
  for (int thread = 0; thread < {{ threads }}; thread++) {
    team->numbers[thread] = thread;
    team->rows[thread][0] = &team->numbers[thread];
    team->rows[thread][1] = &team->address;
    for (int k = 0; k < RUN_ARGUMENTS; k++) team->rows[thread][2 + k] = &space->values[k];
  }
}

static int execute(struct workspace *space) {
  struct team *team = &space->team;
  if (team->process != getpid() && !start_workers(team)) return 0;
  set_job(team, run_code(space->variant), team->rows, sizeof team->rows[0]);
  {{ pool_names.dispatch }}(team->address);
  return 1;
}

static void dismiss(struct workspace *space) {
  if (space->team.process == getpid()) end_workers(&space->team, {{ threads - 1 }});
}
