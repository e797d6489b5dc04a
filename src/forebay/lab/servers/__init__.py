"""Real servers for drills and tests: found on this machine, started by us, stopped by process id.

Each is an async context on a free loopback port in a folder that the caller gives, ready when the
context is entered, and ended when it is left. What is not installed is told as
:class:`~forebay.errors.Unreachable`, with what to do; ``.ci/install-servers`` fetches all of it.

::

    async with webhook.receiving(clock) as hook:
        async with alertmanager.running(folder / "alertmanager", hook.url, clock=clock) as manager:
            async with prometheus.running(
                folder / "prometheus",
                ["127.0.0.1:8080"],
                rules=alerts.scaled(alerts.text(), 0.05),
                alertmanager=manager.address,
                clock=clock,
            ) as prometheus_server:
                await hook.wait("ForebayBreakerOpen", "firing", seconds=30)
                await hook.wait("ForebayBreakerOpen", "resolved", seconds=30)

``manager`` and ``prometheus_server`` tell ``address`` (host and port), ``url`` and ``version``.
"""
