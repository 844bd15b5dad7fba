"""Writes templates.json: prompts that Hugging Face transformers renders with its own Jinja2 environment.

usage: templates.py  (packages: transformers, jinja2)

The templates are written here; each uses the features that its family's templates use.
"""

import copy
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent.parent
NOW = 1_753_876_543  # 2025-07-30 11:55:43 UTC


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Clock

TEMPLATES = {
    "chatml": """{% for message in messages %}
    {% if loop.first and messages[0]['role'] != 'system' %}
        {{ '<|im_start|>system\\nYou are helpful<|im_end|>\\n' }}
    {% endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "llama3": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message comes out first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
    {{- "Tools: " + tools | selectattr('function.name', 'equalto', 'search') | map(attribute='function.name') | join(", ") + "\\n\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' ~ arg_val ~ '"' }}
            {%- if not loop.last %}{{- ", " }}{% endif %}
        {%- endfor %}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "qwen": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helper.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {%- set content = message.content %}
        {%- if message.role == "assistant" and '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- if loop.index0 > ns.last_query_index or loop.last %}
                {%- set content = '<think>' + reasoning.strip('\\n') + '</think>' + content %}
            {%- endif %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "deepseek": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['type'] + '\\n' + tool['function']['name'] + '\\n```json\\n' + tool['function']['arguments']|tojson + '\\n```'}}{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['function']['name']}}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{{'<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}""",
    "marked": """{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        A:
        {%- generation -%}
            {{ message.content }}{{ eos_token }}
        {%- endgeneration -%}
    {%- elif message.role == 'tool' -%}
        {%- continue -%}
    {%- else -%}
        {{ message.role | upper }}: {{ message.content | replace('\\n', ' ') }}
    {%- endif %}

    {% generation %}
    tail {{ loop.index }}/{{ loop.length }}
    {%+ endgeneration %}
{% endfor -%}
{% if false %}{% generation %}never{% endgeneration %}{% endif %}""",
    "python": """{%- macro show(value, name='x') -%}[{{ name }}={{ value }}]{%- endmacro -%}
{{ show(none) }}{{ show(true, name='t') }}{{ show(1.0) }}{{ show(1e22) }}{{ show(0.00001) }}{{ show([1, 'a', none, {'k': "it's"}]) }}
{{ tools[0] }} {{ tools[0]|string }} {{ undefined_thing }}|{{ undefined_thing is defined }}
{{ numbers | tojson }} {{ numbers | tojson(indent=2) }} {{ numbers|tojson(separators=(',', ':'), sort_keys=true) }} {{ 'é"\\\\<>&\\'\\n\\u0001' | tojson }} {{ 'é🎉' | tojson(ensure_ascii=true) }} {{ {} | tojson(indent=2) }} {{ [] | tojson }}
{{ ' A b '.strip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a b  c'.split() }}|{{ 'a/b/c'.rsplit('/', 1)[0] }}|{{ 'tést'.title() }}|{{ 'abc'.upper() }}|{{ 'a-b'.replace('-', '+') }}|{{ 'foobar'.removeprefix('foo') }}|{{ 'foobar'.removesuffix('bar') }}|{{ 'k=v=w'.partition('=')[2] }}|{{ 'k=v=w'.rpartition('=')[0] }}|{{ ', '.join(['x', 'y']) }}|{{ 'aXbX'.count('X') }}|{{ 'abc'.find('c') }}|{{ 'abc'[::-1] }}|{{ 'abc'[-1] }}|{{ 'ab' * 2 }}|{{ 'a' in 'abc' }}|{{ "%s-%d" | format('a', 3) }}
{{ numbers.get('zz', 'none') }}|{{ numbers.get('zz') }}|{% for k, v in numbers.items() %}{{ k }}={{ v }};{% endfor %}|{{ numbers.keys() | list }}|{{ numbers | dictsort | first }}|{{ numbers | length }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ 2 ** 3 }}|{{ 7 / 2 }}|{{ 6 / 2 }}|{{ 1 if messages else 2 }}|{{ (1, 2) | list }}|{{ range(3) | list }}|{{ [3, 1, 2] | sort | join(',') }}|{{ messages | map(attribute='role') | list }}|{{ messages | rejectattr('role', 'equalto', 'user') | list | length }}|{{ [1, 2] + [3] }}|{{ 'a' ~ 1 ~ true }}|{{ '  x ' | trim }}|{{ 'ab' | first }}|{{ [1, 2] | last }}|{{ 'x' | default('y') }}|{{ undefined_thing | default('y') }}|{{ none | default('d', true) }}|{{ 3 is odd }}|{{ messages is sequence }}|{{ numbers is mapping }}|{{ 'a' is string }}|{{ 1 is number }}
{%- for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %} {{ i }}{% else %}none{% endfor %}
{%- set captured %}block {{ bos_token }}{% endset %} {{ captured }} {% filter upper %}loud{% endfilter %} {% raw %}{{ raw }}{% endraw %} {# comment #}
{{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %d %j %y %p %I %%') }}
{{ documents[0].title }} {{ documents | length }}
""",
}

SYSTEM = {"role": "system", "content": " Be terse. "}
USER = {"role": "user", "content": "What's the <weather> in “Paris” & Rome?\n"}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n It rains. "}
AGAIN = {"role": "user", "content": "Sure? 你好 🎉"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_123",
            "type": "function",
            "function": {"name": "search", "arguments": {"query": "weather “Paris”", "days": 3, "metric": True, "x": 0.5}},
        }
    ],
}
RESULT = {"role": "tool", "name": "search", "tool_call_id": "call_123", "content": '{"sky": "grey"}'}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the web, it's <fast> & free",
            "parameters": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "default": None}},
                "required": ["query"],
            },
        },
    },
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]
CHATS = {
    "one": ([USER], None),
    "system": ([SYSTEM, USER, ANSWER, AGAIN], None),
    "turns": ([USER, ANSWER, AGAIN, ANSWER], None),
    "offered": ([SYSTEM, USER], TOOLS),
    "called": ([USER, CALL, RESULT], TOOLS),
    "answered": ([SYSTEM, USER, CALL, RESULT, ANSWER, AGAIN], TOOLS),
}
EXTRA = {
    "enable_thinking": False,
    "numbers": {"b": 1, "a": [1.5, 1e-7, 12345678901234567890, -0.0], "c": {"t": True, "n": None, "s": "ü"}},
}
DOCUMENTS = [{"title": "One", "text": "text"}]
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}


def on_the_wire(messages):
    """The messages as an OpenAI client sends them, with a call's arguments as a string."""
    messages = copy.deepcopy(messages)
    for message in messages:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return messages


def render(template, messages, tools, prompt):
    try:
        text, _ = chat_template_utils.render_jinja_template(
            # As in apply_chat_template, null fields are left out.
            conversations=[[{k: v for k, v in message.items() if v is not None} for message in messages]],
            tools=tools,
            documents=DOCUMENTS,
            chat_template=template,
            add_generation_prompt=prompt,
            **SPECIALS,
            **EXTRA,
        )
        return {"text": text[0]}
    except Exception as error:
        # The template writes the message of raise_exception; Python's other messages are not compared.
        return {"error": str(error) if type(error) is jinja2.exceptions.TemplateError else ""}


if __name__ == "__main__":
    cases = []
    for name, template in TEMPLATES.items():
        for chat, (messages, tools) in CHATS.items():
            if name == "python" and chat != "called":
                continue
            prompt = messages[-1]["role"] != "assistant"
            cases.append({"template": name, "chat": chat, "prompt": prompt} | render(template, messages, tools, prompt))
    chats = {name: {"messages": on_the_wire(messages), "tools": tools} for name, (messages, tools) in CHATS.items()}
    out = {"now": NOW, "specials": SPECIALS, "extra": EXTRA, "documents": DOCUMENTS}
    out |= {"templates": TEMPLATES, "chats": chats, "cases": cases}
    (HERE / "templates.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
