"""The actions of ``launch`` that start no process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tgrpo_ros.standin.substitutions import SomeText, as_list, text

if TYPE_CHECKING:
    from tgrpo_ros.standin.context import Context


class IfCondition:
    """Whether a text is true."""

    wanted = True

    def __init__(self, predicate_expression: SomeText) -> None:
        self.predicate = predicate_expression

    def evaluate(self, context: Context) -> bool:
        """Performs the text.

        Raises:
            RuntimeError: It is neither true nor false.
        """
        value = text(context, self.predicate).strip().lower()
        if value not in ("true", "1", "false", "0"):
            raise RuntimeError(f"a condition must be 'true' or 'false', not '{value}'")
        return (value in ("true", "1")) is self.wanted


class UnlessCondition(IfCondition):
    """Whether a text is false."""

    wanted = False


class Action:
    """Something a launch file asks for."""

    def __init__(self, *, condition: IfCondition | None = None) -> None:
        self.condition = condition

    def visit(self, context: Context) -> None:
        """Executes the action and those it results in, if its condition holds."""
        if self.condition is None or self.condition.evaluate(context):
            for child in as_list(self.execute(context)):
                child.visit(context)

    def execute(self, context: Context) -> Any:
        """Does the work; may return further actions."""
        raise NotImplementedError


class LaunchDescription:
    """What a launch file returns."""

    def __init__(self, initial_entities: Iterable[Action] | None = None) -> None:
        self.entities = list(initial_entities or [])

    def add_action(self, action: Action) -> None:
        """Appends an action."""
        self.entities.append(action)

    def visit(self, context: Context) -> None:
        """Executes all actions in their order."""
        for entity in self.entities:
            entity.visit(context)


class DeclareLaunchArgument(Action):
    """A launch argument with its default and its valid values."""

    def __init__(
        self,
        name: str,
        *,
        default_value: SomeText = None,
        description: str | None = None,
        choices: Sequence[str] | None = None,
        condition: IfCondition | None = None,
    ) -> None:
        super().__init__(condition=condition)
        self.name, self.default_value, self.description, self.choices = name, default_value, description, choices

    def execute(self, context: Context) -> None:
        """Sets the default and checks the value."""
        values = context.launch_configurations
        if self.name not in values:
            if self.default_value is None:
                raise RuntimeError(f"required launch argument '{self.name}' was not provided")
            values[self.name] = text(context, self.default_value)
        if self.choices is not None and values[self.name] not in self.choices:
            raise RuntimeError(
                f"argument '{self.name}': '{values[self.name]}' is not one of the choices {list(self.choices)}"
            )


class SetLaunchConfiguration(Action):
    """Sets the value of a launch argument."""

    def __init__(self, name: SomeText, value: SomeText, *, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.name, self.value = name, value

    def execute(self, context: Context) -> None:
        """Sets it."""
        context.launch_configurations[text(context, self.name)] = text(context, self.value)


class SetEnvironmentVariable(SetLaunchConfiguration):
    """Sets an environment variable of the processes that follow."""

    def execute(self, context: Context) -> None:
        """Sets it."""
        context.environment[text(context, self.name)] = text(context, self.value)


class LogInfo(Action):
    """Writes a line."""

    def __init__(self, *, msg: SomeText, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.msg = msg

    def execute(self, context: Context) -> None:
        """Writes it."""
        context.log("launch.user", text(context, self.msg))


class OpaqueFunction(Action):
    """Calls a function with the context; it may return further actions."""

    def __init__(
        self,
        *,
        function: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        condition: IfCondition | None = None,
    ) -> None:
        super().__init__(condition=condition)
        self.function, self.args, self.kwargs = function, args, kwargs or {}

    def execute(self, context: Context) -> Any:
        """Calls it."""
        return self.function(context, *self.args, **self.kwargs)


class GroupAction(Action):
    """Actions whose settings end with the group."""

    def __init__(self, actions: Iterable[Action], *, scoped: bool = True, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.actions, self.scoped = list(actions), scoped

    def execute(self, context: Context) -> None:
        """Executes them and restores what they have set."""
        saved = (
            dict(context.launch_configurations),
            dict(context.environment),
            context.namespace,
            list(context.parameters),
        )
        for action in self.actions:
            action.visit(context)
        if self.scoped:
            context.launch_configurations, context.environment, context.namespace, context.parameters = saved


class PythonLaunchDescriptionSource:
    """Where a launch file is."""

    def __init__(self, location: SomeText) -> None:
        self.location = location


class IncludeLaunchDescription(Action):
    """Runs another launch file."""

    def __init__(
        self,
        source: PythonLaunchDescriptionSource,
        *,
        launch_arguments: Iterable[tuple[SomeText, SomeText]] | None = None,
        condition: IfCondition | None = None,
    ) -> None:
        super().__init__(condition=condition)
        self.source, self.launch_arguments = source, launch_arguments or ()

    def execute(self, context: Context) -> None:
        """Sets its arguments and runs it."""
        from tgrpo_ros.standin.modules import load  # it names every class here

        for name, value in self.launch_arguments:
            context.launch_configurations[text(context, name)] = text(context, value)
        load(text(context, self.source.location)).visit(context)


class Shutdown(Action):
    """Ends the launch."""

    def __init__(self, *, reason: SomeText = "reason not given", condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.reason = reason

    def execute(self, context: Context) -> None:
        """Ends it."""
        context.shutdown(text(context, self.reason))


class RegisterEventHandler(Action):
    """Waits for an event."""

    def __init__(self, event_handler: Any, *, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.event_handler = event_handler

    def execute(self, context: Context) -> None:
        """Registers the handler."""
        context.handlers.append(self.event_handler)
