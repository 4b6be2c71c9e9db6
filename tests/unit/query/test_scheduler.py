"""The threads that run questions."""

from __future__ import annotations

import asyncio
import threading

import pytest

from atalaia.query.engine import QueryLimits
from atalaia.query.scheduler import Question, Scheduler
from atalaia.query.ticket import QueryCancelled, QueryNeedsMemory, QueryTooExpensive, Ticket


def asked(tenant: str = "t", quick: bool = False) -> Question:
    return Question(tenant, "{}", "/", Ticket(60), quick)


def test_what_needs_more_memory_runs_again_where_there_is_more() -> None:
    places = []

    def work(question: Question) -> str:
        places.append(question.ticket.place)
        question.ticket.passed += 1
        if question.ticket.place:
            raise QueryNeedsMemory("more")
        assert question.ticket.passed == 1, "what the first run counted is not counted twice"
        return "done"

    async def scenario() -> None:
        scheduler = Scheduler(QueryLimits(running=2))
        assert await scheduler.run(asked(), work) == "done"
        assert await scheduler.run(asked(quick=True), work) == "done"
        assert places == [1, 0, 3, 0]

        def hopeless(question: Question) -> None:
            raise QueryNeedsMemory("still more")

        with pytest.raises(QueryTooExpensive, match="still more"):
            await scheduler.run(asked(), hopeless)
        assert scheduler.questions() == []
        scheduler.close()

    asyncio.run(scenario())


def test_questions_are_listed_while_they_run_and_wait_and_can_be_ended() -> None:
    began, ended = threading.Event(), threading.Event()

    def work(question: Question) -> None:
        began.set()
        question.ticket.tell(ended.set)
        assert ended.wait(20)
        question.ticket.check()

    async def scenario() -> None:
        scheduler = Scheduler(QueryLimits(running=1))
        first = asyncio.create_task(scheduler.run(asked("a"), work))
        assert await asyncio.to_thread(began.wait, 20)
        second = asyncio.create_task(scheduler.run(asked("b"), work))
        quick = await scheduler.run(asked("a", quick=True), lambda question: question.ticket.place)
        assert quick == 2, "what reads little waits for no query"
        listed = {question.tenant: question for question in scheduler.questions()}
        assert listed["a"].began is not None
        assert listed["b"].began is None
        queues = {name: (queue.running, queue.waiting) for name, queue in scheduler.queues.items()}
        assert queues == {"queries": (1, 1), "quick": (0, 0), "large": (0, 0)}
        assert scheduler.cancel(listed["b"].number)
        with pytest.raises(QueryCancelled):
            await second
        assert scheduler.cancel(listed["a"].number)
        with pytest.raises(QueryCancelled):
            await first
        assert not scheduler.cancel(listed["a"].number)
        assert scheduler.questions() == []
        scheduler.close()

    asyncio.run(scenario())


def test_a_place_is_free_only_when_the_work_in_it_is_over() -> None:
    began, goes_on = threading.Event(), threading.Event()

    def work(question: Question) -> None:
        began.set()
        assert goes_on.wait(20)

    async def scenario() -> None:
        scheduler = Scheduler(QueryLimits(running=1))
        task = asyncio.create_task(scheduler.run(asked(), work))
        assert await asyncio.to_thread(began.wait, 20)
        (question,) = scheduler.questions()
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert question.ticket.over, "the work is told to end"
        assert scheduler.queues["queries"].running == 1
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scheduler.queues["queries"].running == 0
        scheduler.close()

    asyncio.run(scenario())
