"""Chat templates written for the tests after the facts of published model families: their markers, where they trim, what
they add, what they rewrite. None is a family's own text."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    # a system message of its own where there is none; tool calls between tags
    "qwen2.5": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ '\n' }}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # the thought is kept in the turn after the last question only; elsewhere dropped; a last turn without one gets an empty one
    "qwen3": (
        "{% set ns = namespace(last=0) %}"
        "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{% set thought = '' %}{% set content = m.content %}"
        "{% if '</think>' in m.content %}"
        "{% set thought = m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
        "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{% if loop.index0 > ns.last and (loop.last or thought) %}"
        "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{{ content.lstrip('\n') }}{% else %}{{ content }}{% endif %}"
        "{% for call in m.tool_calls or [] %}{% if not loop.first or content %}{{ '\n' }}{% endif %}"
        '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
        "</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    # earlier thoughts are cut off, the prompt opens the next one
    "deepseek-r1": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}{% elif m.role == 'assistant' %}"
        "<|Assistant|>{{ m.content.split('</think>')[-1] }}<|eos|>{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
    ),
    # blanks around the answer, trimmed inside; the system message within the first question
    "llama2": (
        "{% set ns = namespace(system='') %}"
        "{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
        "{% elif m.role == 'user' %}{{ bos_token }}[INST] {{ ns.system }}{{ m.content.strip() }} [/INST]{% set ns.system = '' %}"
        "{% elif m.role == 'assistant' %} {{ m.content.strip() }} {{ eos_token }}"
        "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
    ),
    # a date in a system header that it always writes
    "llama3": (
        "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    # the system message moves into the last question, so that earlier turns change when a turn is added
    "mistral-nemo": (
        "{% set ns = namespace(system='', last=0) %}{% for m in messages %}"
        "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}{% endif %}"
        "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{{ bos_token }}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{% if loop.index0 == ns.last %}{{ ns.system }}{% endif %}"
        "{{ m.content }}[/INST]{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    # no system message, other names of roles, trimmed
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    # ends with the end of the text, but only where no prompt is opened
    "phi3.5": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    ),
    # words for roles, an end marker only after an answer
    "vicuna": (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content.strip() }} {% elif m.role == 'assistant' %}"
        "ASSISTANT: {{ m.content.strip() }}{{ eos_token }}{% else %}{{ m.content.strip() }} {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    # the next turn's header ends an answer; a last answer has no end; an empty thought in every earlier turn
    "glm4.5": (
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}<think></think>\n"
        "{{ m.content.strip() }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    # an answer is one of several channels
    "gpt-oss": (
        "{% for m in messages %}<|start|>{{ 'developer' if m.role == 'system' else m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
        "{% if m.role == 'assistant' and loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    # a greeting of the model's before anything was asked
    "greeting": (
        "{{ bos_token }}<|assistant|>\nHello! Four.<|end|>\n{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    # no end marker at all; every question begins with the token that begins a text
    "alpaca": (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}### Instruction:\n{{ m.content }}\n\n"
        "{% elif m.role == 'assistant' %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}### Response:\n{% endif %}"
    ),
    # a date in ISO form, JSON around the words
    "granite": (
        '<|start_of_role|>system<|end_of_role|>Today\'s Date: {{ strftime_now("%B %d, %Y") }}.<|end_of_text|>\n'
        "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    "chatml": CHATML,
}
SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|User|>", "<|Assistant|>", "<|eos|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>",
    "<|system|>", "[gMASK]", "<sop>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|start_of_role|>",
    "<|end_of_role|>", "<|end_of_text|>",
]  # fmt: skip
