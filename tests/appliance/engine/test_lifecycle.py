from appliance.engine.lifecycle import EXIT_FINAL, STEADY_SECONDS, Progress, Restarts


def test_waits_double_up_to_their_limit() -> None:
    restarts = Restarts(delay_seconds_min=1, delay_seconds_max=5)

    assert [restarts.next_delay(1, 0) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert restarts.total == 5


def test_a_part_that_served_long_is_tried_again_at_once() -> None:
    restarts = Restarts(delay_seconds_min=1, delay_seconds_max=60)
    for _ in range(4):
        restarts.next_delay(1, 0)

    assert restarts.next_delay(1, STEADY_SECONDS) == 1


def test_a_part_that_dies_right_after_ready_still_waits_longer_each_time() -> None:
    restarts = Restarts(delay_seconds_min=1, delay_seconds_max=60, in_a_row_max=2)
    delays: list[float | None] = []
    for _ in range(4):
        restarts.became_ready()
        delays.append(restarts.next_delay(1, 0.5))

    assert delays == [1, 2, 4, 8]


def test_it_gives_up_after_so_many_tries_without_ready() -> None:
    restarts = Restarts(delay_seconds_min=1, delay_seconds_max=9, in_a_row_max=2)

    assert [restarts.next_delay(70, 0) for _ in range(3)] == [1, 2, None]


def test_what_trying_again_cannot_mend_is_given_up_at_once() -> None:
    assert [
        Restarts(delay_seconds_min=1, delay_seconds_max=9, in_a_row_max=5).next_delay(code, 0)
        for code in sorted(EXIT_FINAL)
    ] == [None, None, None]


def test_without_a_limit_nothing_is_given_up() -> None:
    restarts = Restarts(delay_seconds_min=0, delay_seconds_max=0)

    assert restarts.next_delay(78, 0) == 0


def test_a_reset_counts_from_the_start() -> None:
    restarts = Restarts(delay_seconds_min=1, delay_seconds_max=9, in_a_row_max=1)
    restarts.next_delay(1, 0)

    restarts.reset()

    assert (restarts.total, restarts.next_delay(1, 0)) == (0, 1)


def test_work_without_progress_is_a_hang_once_it_lasts() -> None:
    progress = Progress(stall_seconds_max=10)

    assert [progress.stalled(busy=True, fingerprint=7, now=now) for now in (0, 9, 10)] == [False, False, True]


def test_any_progress_starts_the_wait_anew() -> None:
    progress = Progress(stall_seconds_max=10)

    seen = [progress.stalled(busy=True, fingerprint=mark, now=now) for mark, now in ((1, 0), (2, 9), (2, 18))]

    assert seen == [False, False, False]


def test_an_idle_engine_never_hangs() -> None:
    progress = Progress(stall_seconds_max=10)

    assert [progress.stalled(busy=False, fingerprint=1, now=now) for now in (0, 100)] == [False, False]


def test_idle_time_does_not_count_as_silence() -> None:
    progress = Progress(stall_seconds_max=10)
    progress.stalled(busy=False, fingerprint=1, now=0)
    progress.stalled(busy=False, fingerprint=1, now=100)

    assert not progress.stalled(busy=True, fingerprint=1, now=101)
