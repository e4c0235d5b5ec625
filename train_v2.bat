@echo off
rem Distils FeatherFace V1 into V2 on .\data\widerface:   train_v2.bat [flags of train_v2.py]
rem The same in small, on a drawn demo set:               train_v2.bat --demo
rem A flag given on the command line overrides the one below.
setlocal
cd /d "%~dp0" || exit /b 2

if defined VIRTUAL_ENV goto install
if defined CONDA_PREFIX goto install
python -c "import sys; sys.exit(sys.version_info < (3, 10))" 2> nul && goto venv
echo error: Python 3.10 or newer is needed as python; install it and run this again 1>&2
exit /b 2
:venv
if not exist .venv\Scripts\activate.bat python -m venv .venv || exit /b 2
call .venv\Scripts\activate.bat || exit /b 2
:install
python -m utils.installed > nul && goto start
echo installing what requirements.txt names (PyTorch from PyPI brings CUDA along, about 6 GB;
echo README.md has the smaller way without a GPU)
python -m pip install --quiet --disable-pip-version-check -r requirements.txt || exit /b 2
:start

if not "%~1"=="--demo" goto train
python demo.py %2 %3 %4 %5 %6 %7 %8 %9
exit /b %ERRORLEVEL%

:train
rem A run that goes on has its own recipe.
echo %* | findstr /c:"--resume_net" /c:"--resume-net" > nul && goto resume
python train_v2.py ^
    --training_dataset ./data/widerface/train/label.txt ^
    --teacher_model ./weights/FeatherNetB_se.pth ^
    --save_folder ./weights/v2/ ^
    --batch_size 32 ^
    --lr 1e-3 ^
    --epochs 400 ^
    --warmup_epochs 5 ^
    --weight_decay 0.05 ^
    --temperature 4.0 ^
    --alpha 0.7 ^
    --feature_weight 0.1 ^
    --mixup_alpha 0.2 ^
    --cutmix_prob 0.5 ^
    --dropblock_prob 0.1 ^
    --dropblock_size 3 ^
    --num_workers 4 ^
    %*
exit /b %ERRORLEVEL%

:resume
python train_v2.py %*
exit /b %ERRORLEVEL%
