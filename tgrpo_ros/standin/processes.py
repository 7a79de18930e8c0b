"""The actions of ``launch`` and ``launch_ros`` that start processes or change how nodes are started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from tgrpo_ros.standin.actions import Action, IfCondition
from tgrpo_ros.standin.substitutions import SomeText, Substitution, find_prefix, text

if TYPE_CHECKING:
    from tgrpo_ros.standin.context import Context


class ExecuteProcess(Action):
    """Starts a program."""

    def __init__(
        self,
        *,
        cmd: Sequence[SomeText],
        cwd: SomeText = None,
        env: Mapping[SomeText, SomeText] | None = None,
        additional_env: Mapping[SomeText, SomeText] | None = None,
        output: str = "log",
        sigterm_timeout: SomeText = "5",
        sigkill_timeout: SomeText = "5",
        respawn: bool = False,
        respawn_delay: float = 0.0,
        on_exit: Any = None,
        condition: IfCondition | None = None,
    ) -> None:  # launch's own arguments
        super().__init__(condition=condition)
        self.cmd, self.cwd, self.env, self.additional_env = cmd, cwd, env, additional_env
        self.respawn, self.respawn_delay = respawn, respawn_delay
        self.on_exit, self.timeouts = on_exit, (sigterm_timeout, sigkill_timeout)
        if output not in ("log", "screen"):
            raise TypeError(f"output={output!r}: the stand-in always prints; use 'screen'")

    def command(self, context: Context) -> list[str]:
        """Program and arguments."""
        return [text(context, word) for word in self.cmd]

    def grace(self, context: Context) -> tuple[float, float]:
        """From SIGINT to SIGTERM and from there to SIGKILL [s]."""
        first, second = (float(text(context, value)) for value in self.timeouts)
        return first, second

    def execute(self, context: Context) -> None:
        """Starts the program with its own environment."""
        environment = context.environment if self.env is None else _performed(context, self.env)
        merged = {**environment, **_performed(context, self.additional_env or {})}
        context.spawn(self, self.command(context), merged, text(context, self.cwd) if self.cwd else None)


def _performed(context: Context, mapping: Mapping[SomeText, SomeText]) -> dict[str, str]:
    return {text(context, key): text(context, value) for key, value in mapping.items()}


class ParameterValue:
    """A parameter of one type, whatever its text looks like."""

    def __init__(self, value: SomeText, *, value_type: type | None = None) -> None:
        if value_type not in (None, str, int, float, bool):
            raise TypeError(f"the stand-in does not know parameters of type {value_type}")
        self.value, self.value_type = value, value_type

    def evaluate(self, context: Context) -> Any:
        """The value.

        Raises:
            ValueError: The text does not fit the type.
        """
        raw = text(context, self.value)
        if self.value_type is str:
            return raw
        value = yaml.safe_load(raw)
        if self.value_type is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if self.value_type is not None and type(value) is not self.value_type:
            raise ValueError(f"'{raw}' is not a valid value of type {self.value_type.__name__}")
        return value


def evaluate_parameters(context: Context, parameters: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested parameters to dotted names and performs their values."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        name = prefix + text(context, key)
        if isinstance(value, Mapping):
            flat.update(evaluate_parameters(context, value, f"{name}."))
        else:
            flat[name] = evaluate_parameter(context, value)
    return flat


def evaluate_parameter(context: Context, value: Any) -> Any:
    """The value of one parameter; a substitution's text is read as YAML."""
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    inside = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(part, Substitution) for part in inside):
        return yaml.safe_load(text(context, value))
    return inside if isinstance(value, (list, tuple)) else value


class Node(ExecuteProcess):
    """Starts a ROS node."""

    def __init__(
        self,
        *,
        executable: SomeText,
        package: SomeText = None,
        name: SomeText = None,
        namespace: SomeText = None,
        parameters: Sequence[Any] = (),
        remappings: Iterable[tuple[SomeText, SomeText]] = (),
        arguments: Iterable[SomeText] = (),
        ros_arguments: Iterable[SomeText] = (),
        **process: Any,
    ) -> None:
        super().__init__(cmd=[executable], **process)
        self.package, self.executable, self.name, self.namespace = package, executable, name, namespace
        self.parameters, self.remappings = parameters, remappings
        self.arguments, self.ros_arguments = arguments, ros_arguments

    def command(self, context: Context) -> list[str]:
        """Program and arguments, in launch's order."""
        command = [self._program(context), *(text(context, word) for word in self.arguments)]
        if words := [text(context, word) for word in self.ros_arguments]:
            command += ["--ros-args", *words]
        command.append("--ros-args")
        namespace = self._namespace(context)
        if self.name is not None:
            command += ["-r", f"__node:={text(context, self.name)}"]
        if namespace:
            command += ["-r", f"__ns:={namespace}"]
        for name, value in context.parameters:
            command += ["-p", f"{name}:={value}"]
        for parameters in self.parameters:
            command += ["--params-file", self._parameter_file(context, parameters, namespace)]
        for source, target in self.remappings:
            command += ["-r", f"{text(context, source)}:={text(context, target)}"]
        return command

    def _program(self, context: Context) -> str:
        program, package = text(context, self.executable), text(context, self.package)
        if not package:
            return program
        folder = find_prefix(package, context.environment) / "lib" / package
        if not os.access(folder / program, os.X_OK):
            raise LookupError(f"executable '{program}' not found on the libexec directory '{folder}'")
        return str(folder / program)

    def _namespace(self, context: Context) -> str:
        """Absolute namespace of the node, or nothing where neither the node nor a group names one."""
        if self.namespace is None and not context.namespace:
            return ""
        own = text(context, self.namespace)
        parts = [own] if own.startswith("/") else [context.namespace, own]
        return "/" + "/".join(part.strip("/") for part in parts if part.strip("/"))

    def _parameter_file(self, context: Context, parameters: Any, namespace: str) -> str:
        if not isinstance(parameters, Mapping):
            return text(context, parameters)
        named = self.name is not None and namespace
        key = f"{namespace.rstrip('/')}/{text(context, self.name)}" if named else "/**"
        content = {key: {"ros__parameters": evaluate_parameters(context, parameters)}}
        with tempfile.NamedTemporaryFile("w", prefix="launch_params_", dir=context.folder, delete=False) as file:
            yaml.safe_dump(content, file, default_flow_style=False)
        return file.name


class LifecycleNode(Node):
    """Starts a managed node, which must have a name and a namespace."""

    def __init__(self, *, name: SomeText, namespace: SomeText, **node: Any) -> None:
        super().__init__(name=name, namespace=namespace, **node)


class PushRosNamespace(Action):
    """Puts the nodes that follow into a namespace."""

    def __init__(self, namespace: SomeText, *, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.namespace = namespace

    def execute(self, context: Context) -> None:
        """Extends the namespace, or replaces it by an absolute one."""
        pushed = text(context, self.namespace)
        if pushed.startswith("/"):
            context.namespace = pushed
        elif pushed:
            context.namespace = f"{context.namespace.rstrip('/')}/{pushed}"


class SetParameter(Action):
    """Gives the nodes that follow a parameter."""

    def __init__(self, name: SomeText, value: Any, *, condition: IfCondition | None = None) -> None:
        super().__init__(condition=condition)
        self.name, self.value = name, value

    def execute(self, context: Context) -> None:
        """Remembers it."""
        context.parameters.append((text(context, self.name), evaluate_parameter(context, self.value)))
